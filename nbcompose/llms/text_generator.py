"""`TextGenerator`: a language model of transformers in this process."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import copy
import queue
import re
import threading
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

from nbcompose._rpc import background
from nbcompose._tracing import current_call
from nbcompose.errors import BlockingCall, CallCancelled, Misuse
from nbcompose.llms import transformers_adapter as adapter
from nbcompose.llms.language_model import Generation, LanguageModel, Prompt, SamplingOptions, Usage
from nbcompose.llms.pieces import Pieces
from nbcompose.llms.prefill import Prefill
from nbcompose.llms.prompts import PromptParts

NO_LIMIT = 1 << 20  # tokens: what tokenizers say that know of no limit is far above it
UNKNOWN_CONTEXT = 1024  # the most tokens of an answer where neither the caller nor the model says
LOOK = 0.1  # seconds between two looks whether a thread that waits is still wanted
_SNAPSHOT = re.compile(r"models--(.+?)/snapshots/")


class TextGenerator(LanguageModel):
    """A causal language model of transformers, as every service with one writes it: chat templates, sampling, stop
    texts, whole characters, numbers of tokens, cancelling.

    Answers are written one after another, each in a thread of its own; while one waits for its turn, or for a stream in
    its prompt, the prompt is read as far as it has come. Sampling uses no random numbers but its own.

    Args:
        model: The model, e.g. of `AutoModelForCausalLM.from_pretrained`; it is put into evaluation mode.
        tokenizer: Its tokenizer.
        name: What the model is called; by default its name on the hub, or that of its folder.

    Raises:
        nbcompose.errors.Misuse: The model does not write text by itself, or the tokenizer is none.
    """

    def __init__(self, model: Any, tokenizer: Any, *, name: str | None = None) -> None:
        config = getattr(model, "config", None)
        if config is None or not callable(getattr(model, "generate", None)):
            raise Misuse(f"{type(model).__name__} is no model of transformers that writes text: {_HOW}")
        if config.is_encoder_decoder:
            raise Misuse(f"{type(model).__name__} translates one text into another and continues none: {_HOW}")
        if not callable(tokenizer) or not hasattr(tokenizer, "decode"):
            raise Misuse(f"{type(tokenizer).__name__} is no tokenizer: {_HOW}")
        self._model = model.eval()
        self._tokenizer = tokenizer
        self._name = name or _name_of(str(getattr(config, "_name_or_path", ""))) or type(model).__name__
        self._context = _context_of(config, tokenizer)
        self._turn = threading.Lock()

    @property
    def name(self) -> str:
        return self._name

    def __repr__(self) -> str:
        return f"TextGenerator({self._name!r})"

    def generate(
        self,
        prompt: Prompt,
        *,
        max_new_tokens: int | None = None,
        temperature: float = 0.0,
        top_p: float | None = None,
        top_k: int | None = None,
        stop: str | Sequence[str] = (),
        seed: int | None = None,
    ) -> Generation:
        options = SamplingOptions.checked(max_new_tokens, temperature, top_p, top_k, stop, seed)
        return _Answer(lambda parts, tell: _Writing(self, parts, options, tell), PromptParts(prompt))

    # -- in the thread of an answer

    def prefill(self, parts: PromptParts, check: Callable[[], None]) -> Prefill:
        return Prefill(self._model, self._tokenizer, parts, self._context, self._name, check)

    def write(
        self,
        ids: list[int],
        cache: Any,
        options: SamplingOptions,
        wanted: Callable[[], bool],
        tell: Callable[[str], object],
    ) -> _End:
        """Write the answer to a prompt, given as tokens; `cache` has the first of them. `wanted`: whether to go on."""
        import torch
        from transformers import StoppingCriteria, StoppingCriteriaList
        from transformers.generation.streamers import BaseStreamer

        pieces = Pieces(self._decode, options.stop)
        written: list[int] = []

        class Streamer(BaseStreamer):  # type: ignore[misc]
            has_prompt = False

            def put(self, value: Any) -> None:
                if not self.has_prompt:
                    self.has_prompt = True
                    return
                new = value.reshape(-1).tolist()
                written.extend(new)
                if text := pieces.put(new):
                    tell(text)

            def end(self) -> None:
                if text := pieces.end():
                    tell(text)

        class Stop(StoppingCriteria):  # type: ignore[misc]
            def __call__(self, input_ids: Any, scores: Any, **_: Any) -> Any:
                is_over = pieces.is_stopped or not wanted()
                return torch.full((input_ids.shape[0],), is_over, dtype=torch.bool, device=input_ids.device)

        config = self._config(len(ids), options)
        given = {} if cache is None else {adapter.cache_argument(self._model): cache}
        prompt = torch.tensor([ids], device=self._model.device)
        self._model.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            generation_config=config,
            logits_processor=self._processors(options),
            stopping_criteria=StoppingCriteriaList([Stop()]),
            streamer=Streamer(),
            **given,
        )
        ends = config.eos_token_id if isinstance(config.eos_token_id, list) else [config.eos_token_id]
        is_whole = pieces.is_stopped or (bool(written) and written[-1] in ends)
        return _End("stop" if is_whole else "length", Usage(len(ids), len(written)))

    def _decode(self, ids: list[int]) -> str:
        text: str = self._tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text

    def _config(self, prompt_tokens: int, options: SamplingOptions) -> Any:
        """Return the model's own settings, with how long the answer may be; sampling is done by `_processors`."""
        config = copy.deepcopy(self._model.generation_config)
        room = UNKNOWN_CONTEXT if self._context is None else self._context - prompt_tokens
        most = room if options.max_new_tokens is None else min(options.max_new_tokens, room)
        config.update(
            max_new_tokens=most, max_length=None, do_sample=False, num_beams=1, use_cache=True,
            temperature=None, top_p=None, top_k=None, return_dict_in_generate=False,
        )  # fmt: skip
        if config.eos_token_id is None:
            config.eos_token_id = self._tokenizer.eos_token_id
        if config.pad_token_id is None:
            ends = config.eos_token_id
            config.pad_token_id = ends[0] if isinstance(ends, list) else ends
        return config

    def _processors(self, options: SamplingOptions) -> Any:
        """Return what makes the likeliest token a sample: the largest of the logits, each with noise of Gumbel's.

        That is a draw from their softmax (E. J. Gumbel, *Statistical Theory of Extreme Values*, 1954), by a generator
        of random numbers of its own: `generate` would use the one that all of the process shares.
        """
        import torch
        from transformers import LogitsProcessor, LogitsProcessorList
        from transformers.generation import logits_process

        found = LogitsProcessorList()
        if options.temperature == 0:
            return found
        random = torch.Generator(device=self._model.device)
        random.manual_seed(options.seed) if options.seed is not None else random.seed()

        class Gumbel(LogitsProcessor):  # type: ignore[misc]
            def __call__(self, input_ids: Any, scores: Any) -> Any:
                return scores - torch.empty_like(scores).exponential_(generator=random).log()

        found.append(logits_process.TemperatureLogitsWarper(options.temperature))
        if options.top_k is not None:
            found.append(logits_process.TopKLogitsWarper(options.top_k))
        if options.top_p is not None and options.top_p < 1:
            found.append(logits_process.TopPLogitsWarper(options.top_p))
        found.append(Gumbel())
        return found

    @contextlib.contextmanager
    def turn(self, check: Callable[[], None]) -> Any:
        """Wait until no other answer is written; `check` raises where that is not wanted any more."""
        while not self._turn.acquire(timeout=LOOK):
            check()
        try:
            yield
        finally:
            self._turn.release()


_HOW = "TextGenerator(model, tokenizer) takes what AutoModelForCausalLM and AutoTokenizer load"


def _name_of(path: str) -> str:
    on_hub = _SNAPSHOT.search(path)
    return on_hub[1].replace("--", "/") if on_hub else path.rstrip("/").rpartition("/")[2] if "/" in path else path


def _context_of(config: Any, tokenizer: Any) -> int | None:
    """Return how many tokens the model can take, as far as it or its tokenizer says."""
    text = config.get_text_config(decoder=True)
    known = (getattr(text, "max_position_embeddings", None), getattr(tokenizer, "model_max_length", None))
    return min((n for n in known if isinstance(n, int) and 0 < n < NO_LIMIT), default=None)


class _End(NamedTuple):
    finish_reason: Literal["stop", "length"]
    usage: Usage


class _Writing:
    """One answer while it is written, in a thread. `tell` is called with pieces, and last with the end or an error."""

    def __init__(
        self, generator: TextGenerator, parts: PromptParts, options: SamplingOptions, tell: Callable[[Any], object]
    ) -> None:
        self.error: BaseException | None = None
        self._generator = generator
        self._parts = parts
        self._options = options
        self._tell = tell
        self._came = threading.Event()
        self._is_wanted = True
        context = contextvars.copy_context()
        threading.Thread(target=context.run, args=(self._run,), name="nbcompose-writes", daemon=True).start()

    def came(self) -> None:
        """Some of the prompt has come. Raises the error, if that has ended the answer already."""
        self._came.set()
        if self.error is not None:
            raise self.error

    def stop(self) -> None:
        """Nobody wants the rest. From any thread; the model stops at its next token, or block of the prompt."""
        self._is_wanted = False
        self._came.set()

    def _check(self) -> None:
        if not self._is_wanted:
            raise CallCancelled("the answer is not wanted any more")

    def _run(self) -> None:
        import torch

        try:
            with torch.inference_mode():
                end: Any = self._write()
        except BaseException as error:
            self.error = end = error
        if self._is_wanted or self.error is not None:
            with contextlib.suppress(RuntimeError):  # the loop of who wanted it has ended
                self._tell(end)

    def _write(self) -> _End:
        generator, parts = self._generator, self._parts
        prefill = generator.prefill(parts, self._check)
        while not parts.is_whole:
            self._came.wait()
            self._came.clear()
            self._check()
            if not parts.is_whole:
                prefill.more()
        ids, cache = prefill.whole()
        with generator.turn(self._check):
            return generator.write(ids, cache, self._options, lambda: self._is_wanted, self._tell)


class _Answer(Generation):
    """The pieces of an answer, for async code on its loop or for sync code in its thread."""

    def __init__(self, write: Callable[[PromptParts, Callable[[Any], object]], _Writing], parts: PromptParts) -> None:
        self._write = write
        self._parts = parts
        self._writing: _Writing | None = None
        self._events: Any = None
        self._is_over = False

    async def __anext__(self) -> str:
        if self._is_over:
            raise StopAsyncIteration
        try:
            if self._writing is None:
                loop, events = asyncio.get_running_loop(), asyncio.Queue[Any]()
                self._events = events
                self._begin(lambda event: loop.call_soon_threadsafe(events.put_nowait, event))
                await self._read()
            piece = self._piece(await self._events.get())
        except BaseException:
            await self.aclose()
            raise
        if piece is None:
            raise StopAsyncIteration
        return piece

    async def _read(self) -> None:
        """Read the streams of the prompt; an error of the model ends that too."""
        assert self._writing is not None
        if self._parts.is_whole:
            return
        reading = asyncio.ensure_future(self._parts.read(self._writing.came))
        failing = asyncio.ensure_future(self._events.get())  # before the prompt is whole nothing else comes
        try:
            await asyncio.wait((reading, failing), return_when=asyncio.FIRST_COMPLETED)
            if not reading.done():
                self._piece(failing.result())
            await reading
        finally:
            reading.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await reading
            if failing.done() and not failing.cancelled():
                self._events.put_nowait(failing.result())  # it came after the end of the prompt
            failing.cancel()

    def __next__(self) -> str:
        if self._is_over:
            raise StopIteration
        if background().inside:
            raise BlockingCall("`for piece in …generate(…)` waits on the event loop of an async api: write `async for`")
        try:
            if self._writing is None:
                self._events = queue.SimpleQueue()
                self._begin(self._events.put)
                self._parts.read_sync(self._came)
            piece = self._piece(self._wait())
        except BaseException:
            self.close()
            raise
        if piece is None:
            raise StopIteration
        return piece

    def _came(self) -> None:
        assert self._writing is not None
        self._writing.came()
        self._check_wanted()

    def _wait(self) -> Any:
        while True:
            with contextlib.suppress(queue.Empty):
                return self._events.get(timeout=LOOK)
            self._check_wanted()

    def _check_wanted(self) -> None:
        call = current_call.get()
        if call is not None and call.cancelled:
            raise CallCancelled("the caller of the answer has gone")

    def _begin(self, tell: Callable[[Any], object]) -> None:
        self._writing = self._write(self._parts, tell)
        if self._parts.is_whole:
            self._writing.came()
        call = current_call.get()
        if call is not None:
            call.on_cancel(self._writing.stop)

    def _piece(self, event: Any) -> str | None:
        """Return the piece that an event is, None at the end. Raises the error that it is."""
        if isinstance(event, str):
            return event
        self._leave()
        if isinstance(event, BaseException):
            raise event
        self.finish_reason, self.usage = event
        return None

    def _leave(self) -> None:
        self._is_over = True
        if self._writing is not None:
            self._writing.stop()
            call = current_call.get()
            if call is not None:
                call.forget(self._writing.stop)

    async def aclose(self) -> None:
        self._leave()
        await self._parts.aclose()

    def close(self) -> None:
        self._leave()
        self._parts.close()

    def __del__(self) -> None:
        writing = getattr(self, "_writing", None)
        if writing is not None:
            writing.stop()
