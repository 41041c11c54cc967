"""What is known of functions and methods by their names: which leave their arguments as they were, and what they give.

Whatever is not known here may alter all that it is handed. A notebook's own functions and classes are looked into
instead (slicing/altering.py); what they define overrules what a name says here.
"""

from __future__ import annotations

import builtins


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# -- builtins

# Those that may alter what they are handed, or whatever they like. `vars` and its like hand out what is inside.
_ALTERING = _words("__import__ delattr eval exec next setattr")
BUILTINS = frozenset(dir(builtins)) - _ALTERING | {"display", "get_ipython"}
# They give something that nobody can alter, or that has nothing of their arguments in it.
_NEW = _words(
    "abs all any ascii bin bool bytes bytearray callable chr complex delattr dir display divmod float format hasattr "
    "hash help hex id input int isinstance issubclass len memoryview oct ord pow print range repr round setattr slice "
    "str display open"
)
# They give something new with their arguments' items in it.
_SHALLOW = _words("dict enumerate filter frozenset iter list map reversed set sorted tuple zip")
# What they are handed is called.
CALLERS = _words("filter map reduce starmap")
# Their results cannot be altered.
FROZEN = _words(
    "ascii bin bool bytes callable chr complex float format hasattr hash hex id input int isinstance issubclass len "
    "oct ord range repr str"
)
FROZEN_METHODS = _words(
    "capitalize casefold center decode encode endswith format isalnum isalpha isdigit join ljust lower lstrip "
    "replace rjust rstrip startswith strip strftime title upper zfill"
)
# They go through what they are handed.
CONSUMERS = _words("all any dict frozenset join list max min set sorted sum tuple deque Counter")
# What is made by these is used up by whoever goes through it.
ITERATORS = _words("enumerate filter iter map open reader reversed zip iterdir glob rglob")

# -- methods

# They alter their object: a container, which keeps its new items as they are.
CONTAINER = _words(
    "append appendleft extend extendleft insert pop popleft popitem remove clear update setdefault add discard sort "
    "reverse rotate"
)

# Neither do these alter what they are handed: a model learns from its data.
TRAINS = _words(
    "add_special_tokens add_tokens backward eval fit fit_predict fit_transform load_state_dict partial_fit step train "
    "zero_grad"
)

# They give their own object back, as it was or somewhere else.
MOVES = _words("cuda cpu eval float half requires_grad_ to train")

# They leave their object as it was, and what they are handed.
LOOKS = _words(
    "add_subplot all allclose any apply argmax argmin argsort array_equal as_posix astype capitalize casefold clip "
    "copy corr corrwith count cov cumsum cumprod decode debug describe detach diff dim display dot dtypes dumps dump "
    "dumps encode endswith equals error exists find findall flatten flush format from_dict from_records get "
    "get_params groupby head help hist id imshow index info int is_file is_dir isalpha isclose isdigit isdir isfile "
    "isin isna isnull item items iterrows itertuples join keys kneighbors ljust log lower lstrip map match matmul "
    "matshow max mean median min model_dump model_dump_json mode nonzero norm notna notnull nunique numel numpy open "
    "partition permute pie plot pow predict predict_log_proba predict_proba prod quantile ravel read_bytes read_text "
    "relative_to repeat replace repr reshape resolve rfind rjust round rpartition rsplit rstrip sample save savefig "
    "savetxt savez scatter score search shape show size softmax split splitlines squeeze startswith state_dict std str "
    "strftime strip sub sum swapcase t tail take tell time title to_bytes to_csv to_dense to_dict to_excel to_html "
    "to_json to_list to_markdown to_numpy to_parquet to_records to_sql to_string tolist topk transform transpose trim "
    "type unique unsqueeze upper value_counts values var vars view warning with_name with_suffix write_bytes "
    "write_text zfill __contains__ __enter__ __getitem__ __iter__ __len__ __repr__ __str__ named_parameters "
    "parameters children modules named_children isoformat timestamp total_seconds date weekday"
) - _words("apply map read write time str shape vars")

# Neither do these, unless they are told to: `df.sort_values("price", inplace=True)`.
COPIES = _words(
    "agg aggregate assign bfill drop drop_duplicates dropna eval ffill fillna interpolate mask melt merge nlargest "
    "nsmallest pivot pivot_table query rename reset_index set_index sort_index sort_values stack unstack where"
)

# They give something new, which may know what it was worked out from: `loss.backward()` goes back to the model.
_COMPUTES = _words(
    "astype cat copy corr cov cumprod cumsum describe exp log max mean median min mode norm pow prod quantile round "
    "softmax sqrt stack std sum var"
)

# They give something that nobody can alter, or with nothing of theirs in it.
_GIVES_NEW = FROZEN_METHODS | _words(
    "all allclose any argmax argmin argsort count decode dump dumps equals error exists find findall flush index info "
    "is_file is_dir isin isna isnull item nunique numel predict predict_log_proba predict_proba print read_bytes "
    "read_text save savefig score show size split splitlines strftime timestamp to_csv to_html to_json to_markdown "
    "to_parquet to_string total_seconds tolist type unique value_counts warning write write_bytes write_text plot "
    "hist scatter imshow matshow isoformat"
)

# What is usually called so only shows, logs or waits.
ONLOOKERS = _words("alt asyncio ax axes fig figure go logger logging pbar plt px sns tqdm ticker writer bar")

# Functions of a module that set something in it: seeds, settings.
_SETTINGS = (
    "add_", "allow_", "append", "apply", "basicConfig", "configure", "disable", "enable", "extend", "filterwarnings",
    "init", "insert", "install", "load_dotenv", "login", "manual_seed", "option_context", "patch", "register", "reset",
    "seed", "set", "setdefault", "simplefilter", "unregister", "update", "use",
)  # fmt: skip

# Doing it again makes no difference.
IDEMPOTENT = _words(
    "add discard clear cpu cuda eval fit_transform half requires_grad_ sort to train update setdefault seed "
    "setattr manual_seed zero_grad"
)

# -- modules

# Their functions leave what they are handed as it was, but for those that say otherwise.
_PURE = (
    "ast", "base64", "collections", "copy", "csv", "dataclasses", "datetime", "decimal", "difflib", "enum", "fnmatch",
    "fractions", "functools", "glob", "hashlib", "html", "inspect", "io", "IPython.display", "itertools", "json",
    "logging", "math", "matplotlib", "nltk.tokenize", "numpy", "operator", "os", "pandas", "pathlib", "pickle",
    "plotly", "pprint", "random", "re", "scipy", "seaborn", "shutil", "sklearn", "statistics", "string", "struct",
    "sys", "tabulate",
    "textwrap", "time", "timeit", "torch", "tqdm", "typing", "unicodedata", "urllib", "uuid", "warnings",
)  # fmt: skip
_UNLESS = _words(
    "copyto fill_diagonal insort insort_left insort_right place put put_along_axis putmask shuffle setitem delitem "
    "iadd iand iconcat ifloordiv imatmul imul ior ipow isub ixor itruediv reduce update_wrapper"
)
_UNLESS_IN = ("torch.nn.init", "torch.nn.utils", "torch.autograd", "torch.serialization")
# What they give has nothing of their arguments in it.
_MODULES_NEW = (
    "base64", "datetime", "decimal", "difflib", "fnmatch", "fractions", "glob", "hashlib", "html", "json", "logging",
    "math",
    "matplotlib", "os", "pathlib", "plotly", "pprint", "re", "seaborn", "shutil", "statistics", "string", "struct",
    "tabulate", "textwrap", "time", "unicodedata", "urllib", "uuid", "warnings",
)  # fmt: skip
_FUNCTIONS_NEW = _words(
    "accuracy_score argmax argsort array concatenate cosine_similarity deepcopy linspace ones rand randn randint "
    "tensor train_test_split uniform vstack hstack zeros arange allclose isclose unique"
)
_FROZEN_OF = _words(
    "datetime.date datetime.datetime datetime.timedelta decimal.Decimal fractions.Fraction os.environ.get os.getenv "
    "os.getcwd os.cpu_count os.path.join os.path.basename os.path.dirname os.path.abspath os.path.exists "
    "pathlib.Path pathlib.PurePath re.compile time.time time.perf_counter time.monotonic torch.device "
    "torch.cuda.is_available uuid.uuid4 uuid.UUID zoneinfo.ZoneInfo"
)
# What is made by these can be called, and stays as it was.
_CALLABLE = ("transformers.", "sentence_transformers.", "torchvision.transforms.", "spacy.load")
LAYERS = _words("Conv1d Conv2d Embedding Flatten GELU GRU Identity LSTM LayerNorm Linear LogSoftmax MSELoss NLLLoss "
                 "CrossEntropyLoss BCELoss RNN ReLU Sigmoid Softmax Tanh")  # fmt: skip


def is_setting(function: str) -> bool:
    """Whether a function is called as one that sets something for the whole process."""
    return function.startswith(_SETTINGS)


def looks(method: str) -> bool:
    """Whether a method of that name leaves its object and its arguments as they were."""
    return method in LOOKS | COPIES


def builtin_leaves(function: str) -> bool:
    """Whether a builtin, or a method of one (`list.append`), leaves what it is handed as it was."""
    first, _, method = function.partition(".")
    return first in BUILTINS and (not method or (method in LOOKS and method not in CONTAINER))


def module_leaves(origin: str) -> bool:
    """The same of what a module has, e.g. "numpy.linalg.norm"."""
    module, _, function = origin.rpartition(".")
    if function in _UNLESS or (function.endswith("_") and not function.startswith("_")):
        return False
    return _within(origin, _PURE) and not _within(module, _UNLESS_IN)


def builtin_gives_new(function: str) -> bool:
    first, _, method = function.partition(".")
    return method in _GIVES_NEW if method else first in _NEW


def copies_items(function: str) -> bool:
    """Whether what it gives is new, and has its arguments' items in it."""
    return function in _SHALLOW or function.rpartition(".")[2] in _COMPUTES - _NEW


def method_gives_new(method: str) -> bool:
    return method in _GIVES_NEW


def module_gives_new(origin: str) -> bool:
    return origin.rpartition(".")[2] in _FUNCTIONS_NEW or _within(origin, _MODULES_NEW)


def gives_frozen(origin: str) -> bool:
    """Whether nobody can alter what a function or class of a module gives."""
    return origin in _FROZEN_OF or (_within(origin, ("math",)) and origin != "math")


def can_be_called(origin: str) -> bool:
    """Whether what is made by a library's function or class stays as it was when it is called."""
    return origin.startswith(_CALLABLE) or (origin.startswith("torch.nn.") and origin.rpartition(".")[2] in LAYERS)


def _within(origin: str, modules: tuple[str, ...]) -> bool:
    return any(origin == m or origin.startswith(f"{m}.") for m in modules)
