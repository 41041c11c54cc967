"""`OpenAIModel`: a model behind any server with OpenAI's interface, such as vLLM, SGLang or llama.cpp."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import weakref
from collections.abc import AsyncGenerator, Callable, Generator, Iterator, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from nbcompose._rpc import background, kept
from nbcompose._tracing import current_call
from nbcompose._user_exceptions import clipped
from nbcompose.errors import (
    CallError,
    DeadlineExceeded,
    Misuse,
    Overloaded,
    PromptTooLong,
    ReplicaDied,
    ServiceUnavailable,
    UnsupportedOption,
)
from nbcompose.llms.language_model import Generation, LanguageModel, Prompt, SamplingOptions, Usage
from nbcompose.llms.prompts import PromptParts

if TYPE_CHECKING:
    from openai import APIStatusError, AsyncOpenAI, AsyncStream
    from openai.types.chat import ChatCompletionChunk

CONNECT_SECONDS = 10.0
MAX_MODELS = 50  # named in an error
SHOWN = 500  # characters of what a server says, in an error of ours
_VERSION = re.compile(r"/v\d\w*(/|$)")
_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*", re.IGNORECASE)

Ended = Callable[[str, Usage | None], None]


class OpenAIModel(LanguageModel):
    """A model behind a server with OpenAI's interface: vLLM, SGLang, llama.cpp, a service with `openai=True`.

    Nothing is sent before the first answer is asked for. Connections are kept, for each event loop its own.

    Args:
        url: The server's address, with or without `/v1`.
        model: The model's name there; may be left out where the server has one model.
        api_key_variable: The name of the environment variable that has the key. The key itself is never kept: it is
            read from there for each request, and only sent to this address.
        timeout: The most seconds that the server may be silent.

    Raises:
        nbcompose.errors.Misuse: An argument is not what it has to be.

    A text, or a stream of text, is sent as the message of a user: what is no chat has no other form there. Streams in a
    prompt are read to their end first. `top_k` is not OpenAI's, but most other servers know it. Without
    `max_new_tokens` it is the server that says how long an answer may be.
    """

    def __init__(
        self, url: str, model: str | None = None, *, api_key_variable: str | None = None, timeout: float = 300.0
    ) -> None:
        self._url = _base_url(url)
        self._model = model
        self._key_variable = api_key_variable
        self._timeout = timeout
        if model is not None and not (isinstance(model, str) and model):
            raise Misuse(f"model={model!r}: the name of a model is wanted, or None")
        if api_key_variable is not None and not (
            isinstance(api_key_variable, str) and _VARIABLE.fullmatch(api_key_variable)
        ):
            # What was given may be the key itself.
            raise Misuse("api_key_variable is the name of an environment variable, such as OPENAI_API_KEY, not the key")
        if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not 0 < timeout < 1e9:
            raise Misuse(f"timeout={timeout!r}: a number of seconds above 0 is wanted")
        self._forget()

    def _forget(self) -> None:
        self._clients: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, AsyncOpenAI] = weakref.WeakKeyDictionary()
        self._found: str | None = None

    def __repr__(self) -> str:
        return f"OpenAIModel({self._url!r}, {self._model!r})"

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in ("_clients", "_found")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._forget()

    @property
    def name(self) -> str:
        """The model's name; that of the server where none was given."""
        return urlsplit(self._url).netloc if self._model is None else self._model

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
        return _Answer(self, PromptParts(prompt), options)

    async def aclose(self) -> None:
        """Close the connections of the running event loop; the next answer opens new ones."""
        client = self._clients.pop(asyncio.get_running_loop(), None)
        if client is not None:
            await client.close()

    def close(self) -> None:
        """As `aclose`, for the connections of answers that sync code has read."""
        background().run(self.aclose())

    # -- requests

    async def pieces(
        self, messages: list[dict[str, Any]], options: SamplingOptions, ended: Ended
    ) -> AsyncGenerator[str, None]:
        """Yield an answer as it comes; `ended` is told how it has ended."""
        client = self._client()
        finish_reason: str | None = None
        usage: Usage | None = None
        create: Any = client.chat.completions.create  # whose types are lists of OpenAI's own models, and the like
        with self._translated():
            stream: AsyncStream[ChatCompletionChunk] = await create(
                model=await self._model_of(client),
                messages=messages,
                stream=True,
                stream_options={"include_usage": True},
                **self._options(options),
            )
        try:
            chunks = aiter(stream)
            while True:
                with self._translated():
                    chunk = await anext(chunks, None)
                    if chunk is None:
                        break
                    text, finish_reason, usage = _content(chunk, finish_reason, usage)
                if text:
                    yield text
        finally:
            await stream.close()
        if finish_reason is None:
            raise ReplicaDied(f"{self._url} went away in the middle of an answer")
        ended(finish_reason, usage)

    def _options(self, options: SamplingOptions) -> dict[str, Any]:
        # OpenAI's newer models only take the newer name; most other servers only know the older one, or both.
        is_openai = (urlsplit(self._url).hostname or "").endswith("openai.com")
        found = {
            "max_completion_tokens" if is_openai else "max_tokens": options.max_new_tokens,
            "temperature": options.temperature,
            "top_p": options.top_p,
            "seed": options.seed,
            "stop": list(options.stop) or None,
            "extra_body": None if options.top_k is None else {"top_k": options.top_k},
        }
        return {name: value for name, value in found.items() if value is not None}

    async def _model_of(self, client: AsyncOpenAI) -> str:
        """Return the name of the model: of the only one, where none was given."""
        if self._model is not None:
            return self._model
        if self._found is None:
            known = await self._known(client)
            if len(known) != 1:
                told = f"has several models: give one of {_listed(known)}" if known else "has no model"
                raise ServiceUnavailable(f"{self._url} {told}, as in OpenAIModel(url, model)").from_below()
            self._found = known[0]
        return self._found

    async def _known(self, client: AsyncOpenAI) -> list[str]:
        page: Any = await client.models.list()
        data = getattr(page, "data", None)
        if not isinstance(data, list):
            raise ValueError("no list of models")
        return [name for name in (getattr(model, "id", None) for model in data) if isinstance(name, str)]

    def _client(self) -> AsyncOpenAI:
        loop = asyncio.get_running_loop()
        client = self._clients.get(loop)
        if client is None:
            client = self._clients[loop] = self._new_client()
            weakref.finalize(self, _close_soon, os.getpid(), loop, client).atexit = False
        return client

    def _new_client(self) -> AsyncOpenAI:
        try:
            import httpx2
            from openai import AsyncOpenAI
        except ImportError as error:
            raise Misuse(f'OpenAIModel needs the package openai: pip install "nbcompose[openai]" ({error})') from None
        from nbcompose.llms.openai_transport import Bounded

        timeout = httpx2.Timeout(self._timeout, connect=min(CONNECT_SECONDS, self._timeout), pool=None)
        limits = httpx2.Limits(max_connections=None)
        # For http:// no certificates are read, which takes a tenth of a second.
        inner = httpx2.AsyncHTTPTransport(limits=limits, verify=self._url.startswith("https:"))
        http = httpx2.AsyncClient(
            transport=Bounded(self._url, self._key, inner), timeout=timeout, follow_redirects=False, trust_env=False
        )
        # The key is none of the client's business: the transport has it. Nor is what its variables say.
        return AsyncOpenAI(
            base_url=self._url, api_key="none", admin_api_key="", organization="", project="", webhook_secret="",
            http_client=http, max_retries=0,
        )  # fmt: skip

    def _key(self) -> str | None:
        if self._key_variable is None:
            return None
        key = os.environ.get(self._key_variable, "").strip()
        if not key:
            raise ServiceUnavailable(
                f"the environment variable {self._key_variable}, which is to have the key of {self._url}, is not set "
                "where the model is used"
            ).from_below()
        if not key.isascii() or not key.isprintable():
            raise ServiceUnavailable(
                f"the environment variable {self._key_variable} has characters that no key of a server can have"
            ).from_below()
        return key

    # -- errors

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        """Raise errors of the `openai` package, and what a server says that is no answer, as errors of ours."""
        from openai import APIConnectionError, APIError, APIStatusError, APITimeoutError

        from nbcompose.llms.openai_transport import unlike

        try:
            yield
        except CallError:
            raise
        except APITimeoutError:
            told = f"{self._url} was silent for {self._timeout:g} s: give it more by OpenAIModel(…, timeout=)"
            raise DeadlineExceeded(told).from_below() from None
        except APIStatusError as error:
            raise self._of_status(error) from None
        except APIConnectionError as error:
            raise self._unreached(error) from None
        except APIError as error:  # in the middle of a stream
            raise self._of_message(None, error.code, _message(error)) from None
        except (ValueError, TypeError, AttributeError, RecursionError) as error:  # no JSON, or another than is wanted
            raise unlike(self._url, f"what is no answer ({clipped(str(error), SHOWN)})") from None

    def _unreached(self, error: Exception) -> CallError:
        import httpx2

        cause = error.__cause__
        why = clipped(str(cause), SHOWN) or type(cause).__name__
        if isinstance(cause, httpx2.ConnectError | httpx2.UnsupportedProtocol):
            return ServiceUnavailable(f"{self._url} cannot be reached: {why}").from_below()
        return ReplicaDied(f"{self._url} went away while it worked on an answer: {why}").from_below()

    def _of_status(self, error: APIStatusError) -> CallError:
        if not isinstance(error.body, dict):
            message = f"{error.status_code}, and no error in OpenAI's form"
            return ServiceUnavailable(f"{self._url} failed: {message}").from_below()
        return self._of_message(error.status_code, error.code, _message(error))

    def _of_message(self, status: int | None, code: str | None, message: str) -> CallError:
        if code == "context_length_exceeded" or (status == 400 and "context length" in message):
            return PromptTooLong(f"{self._url}: {message}")
        if status in (401, 403):
            where = "OpenAIModel(…, api_key_variable=)" if self._key_variable is None else self._key_variable
            return ServiceUnavailable(f"{self._url} refuses the key, see {where}: {message}").from_below()
        if status in (400, 413, 422):
            return UnsupportedOption(f"{self._url} refuses the request: {message}")
        if status == 429:
            return Overloaded(f"{self._url} is busy: {message}").from_below()
        at = "" if status is None else f" ({status})"
        return ServiceUnavailable(f"{self._url} failed{at}: {message}").from_below()


def _close_soon(process: int, loop: asyncio.AbstractEventLoop, client: AsyncOpenAI) -> None:
    """Close the connections of a model that nothing refers to any more."""
    if os.getpid() == process and loop.is_running():  # a forked child has a copy, and not the loop
        with contextlib.suppress(RuntimeError):  # it has ended meanwhile
            loop.call_soon_threadsafe(lambda: kept(loop.create_task(client.close())))


class _Answer(Generation):
    """An answer of a server. Async code reads it on its own loop; for sync code it is read on the background loop."""

    def __init__(self, model: OpenAIModel, parts: PromptParts, options: SamplingOptions) -> None:
        self._model = model
        self._parts = parts
        self._options = options
        self._items: AsyncGenerator[str, None] | None = None
        self._in_thread: Generator[str, None, None] | None = None
        self._step: asyncio.Task[Any] | None = None  # what waits for the server, for sync code
        self._is_over = False
        self._is_left = False  # the caller of the thread has gone away

    async def __anext__(self) -> str:
        if self._is_over:
            raise StopAsyncIteration
        try:
            if self._items is None:
                await self._parts.read()
                self._items = self._pieces()
            return await anext(self._items)
        except BaseException:
            await self.aclose()
            raise

    def __next__(self) -> str:
        if self._is_over:
            raise StopIteration
        context = current_call.get()
        try:
            if self._in_thread is None:
                self._parts.read_sync()
                self._in_thread = background().iterate(self._watched())
            if context is not None:
                context.on_cancel(self._interrupt)
            return next(self._in_thread)
        except BaseException:
            self.close()
            raise
        finally:
            if context is not None:
                context.forget(self._interrupt)

    def _pieces(self) -> AsyncGenerator[str, None]:
        parts = self._parts
        messages = parts.messages() if parts.is_chat else [{"role": "user", "content": parts.text()}]
        return self._model.pieces(messages, self._options, self._ended)

    async def _watched(self) -> AsyncGenerator[str, None]:
        """As `_pieces`, each step known by its task, so that it ends when the caller of the thread goes away."""
        async with contextlib.aclosing(self._pieces()) as items:
            while True:
                self._step = asyncio.current_task()
                if self._is_left:  # before there was a step to cancel
                    self._cancel_step()
                try:
                    piece = await anext(items)
                except StopAsyncIteration:
                    return
                finally:
                    self._step = None
                yield piece

    def _interrupt(self) -> None:
        background().loop.call_soon_threadsafe(self._cancel_step)

    def _cancel_step(self) -> None:
        self._is_left = True
        if self._step is not None:
            self._step.cancel()

    def _ended(self, finish_reason: str, usage: Usage | None) -> None:
        self.finish_reason = "length" if finish_reason == "length" else "stop"
        self.usage = usage

    async def aclose(self) -> None:
        self._is_over = True
        if self._items is not None:
            await self._items.aclose()
        await self._parts.aclose()

    def close(self) -> None:
        self._is_over = True
        if self._in_thread is not None:
            self._in_thread.close()
        self._parts.close()


def _content(
    chunk: ChatCompletionChunk, finish_reason: str | None, usage: Usage | None
) -> tuple[str, str | None, Usage | None]:
    """Return the text of a chunk, and what is known of the end. Raises `ValueError`: it has not been checked yet."""
    choices: Any = getattr(chunk, "choices", None)
    if not isinstance(choices, list):
        raise ValueError("a chunk without choices")
    counts = [getattr(getattr(chunk, "usage", None), name, None) for name in ("prompt_tokens", "completion_tokens")]
    if all(isinstance(count, int) for count in counts):
        usage = Usage(*counts)  # type: ignore[arg-type]
    if not choices:
        return "", finish_reason, usage
    text = getattr(getattr(choices[0], "delta", None), "content", None) or ""
    reason = getattr(choices[0], "finish_reason", None) or finish_reason
    if not isinstance(text, str) or not isinstance(reason, str | None):
        raise ValueError("a chunk whose content is no text")
    return text, reason, usage


def _message(error: Exception) -> str:
    """Return what a server says of an error."""
    body: Any = getattr(error, "body", None)
    message = body.get("message") if isinstance(body, dict) else None
    return clipped(message if isinstance(message, str) and message else str(error), SHOWN)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - MAX_MODELS} more" if len(names) > MAX_MODELS else ""
    return ", ".join(clipped(name, SHOWN) for name in names[:MAX_MODELS]) + more


def _base_url(url: Any) -> str:
    """Return the address below which the routes are. Raises `Misuse`."""
    parts = urlsplit(url) if isinstance(url, str) else None
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
        raise Misuse("OpenAIModel: the url begins with http:// or https:// and names a host")
    if "@" in parts.netloc or "?" in url or "#" in url:
        raise Misuse(
            "OpenAIModel: leave user, password, query and fragment out of the url, which errors show; the key is read "
            "from the variable that api_key_variable= names"
        )
    plain = url.rstrip("/")
    return plain if _VERSION.search(parts.path) else f"{plain}/v1"
