"""Knowledge about functions and methods by name: which leave their arguments unchanged, and what they return.

What is not listed here may mutate all of its arguments. A notebook's own functions and classes are analysed instead
(`_export/mutation.py`), and what they define takes precedence over the names here.
"""

from __future__ import annotations

import builtins


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# -- builtins

# These may mutate their arguments, or anything. `vars` and the like return the inside of an object.
_ALTERING = _words("__import__ delattr eval exec next setattr")
BUILTINS = frozenset(dir(builtins)) - _ALTERING | {"display", "get_ipython"}
# They return something immutable, or something that contains nothing of their arguments.
_NEW = _words(
    "abs all any ascii bin bool bytes bytearray callable chr complex delattr dir display divmod float format hasattr "
    "hash help hex id input int isinstance issubclass len memoryview oct ord pow print range repr round setattr slice "
    "str display open"
)
# They return a new object that contains the items of their arguments.
_SHALLOW = _words("dict enumerate filter frozenset iter list map reversed set sorted tuple zip")
# They call their arguments.
CALLERS = _words("filter map reduce starmap")
# Their results are immutable.
FROZEN = _words(
    "ascii bin bool bytes callable chr complex float format hasattr hash hex id input int isinstance issubclass len "
    "oct ord range repr str"
)
FROZEN_METHODS = _words(
    "capitalize casefold center decode encode endswith format isalnum isalpha isdigit join ljust lower lstrip "
    "replace rjust rstrip startswith strip strftime title upper zfill"
)
# They iterate over their arguments.
CONSUMERS = _words("all any dict frozenset join list max min set sorted sum tuple deque Counter")
# They make iterators, which an iteration exhausts.
ITERATORS = _words("enumerate filter iter map open reader reversed zip iterdir glob rglob")

# -- methods

# They mutate their object, a container, which keeps its new items unchanged.
CONTAINER = _words(
    "append appendleft extend extendleft insert pop popleft popitem remove clear update setdefault add discard sort "
    "reverse rotate"
)

# They leave their arguments unchanged, too: a model learns from its data.
TRAINS = _words(
    "add_special_tokens add_tokens backward eval fit fit_predict fit_transform load_state_dict partial_fit step train "
    "zero_grad"
)

# They return their own object, as it was or on another device.
MOVES = _words("cuda cpu eval float half requires_grad_ to train")

# They leave their object and their arguments unchanged.
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

# The same, unless told otherwise: `df.sort_values("price", inplace=True)`.
COPIES = _words(
    "agg aggregate assign bfill drop drop_duplicates dropna eval ffill fillna interpolate mask melt merge nlargest "
    "nsmallest pivot pivot_table query rename reset_index set_index sort_index sort_values stack unstack where"
)

# They return something new that may refer to its inputs: `loss.backward()` reaches the model.
_COMPUTES = _words(
    "astype cat copy corr cov cumprod cumsum describe exp log max mean median min mode norm pow prod quantile round "
    "softmax sqrt stack std sum var"
)

# They return something immutable, or something that contains nothing of their arguments.
_GIVES_NEW = FROZEN_METHODS | _words(
    "all allclose any argmax argmin argsort count decode dump dumps equals error exists find findall flush index info "
    "is_file is_dir isin isna isnull item nunique numel predict predict_log_proba predict_proba print read_bytes "
    "read_text save savefig score show size split splitlines strftime timestamp to_csv to_html to_json to_markdown "
    "to_parquet to_string total_seconds tolist type unique value_counts warning write write_bytes write_text plot "
    "hist scatter imshow matshow isoformat"
)

# Objects with these names usually only show, log or wait.
ONLOOKERS = _words("alt asyncio ax axes fig figure go logger logging pbar plt px sns tqdm ticker writer bar")

# Functions of a module that change its state: seeds, settings.
_SETTINGS = (
    "add_", "allow_", "append", "apply", "basicConfig", "configure", "disable", "enable", "extend", "filterwarnings",
    "init", "insert", "install", "load_dotenv", "login", "manual_seed", "option_context", "patch", "register", "reset",
    "seed", "set", "setdefault", "simplefilter", "unregister", "update", "use",
)  # fmt: skip

# Calling them again makes no difference.
IDEMPOTENT = _words(
    "add discard clear cpu cuda eval fit_transform half requires_grad_ sort to train update setdefault seed "
    "setattr manual_seed zero_grad"
)

# -- modules

# Their functions leave their arguments unchanged, except those in `_UNLESS` and `_UNLESS_IN`.
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
# Their results contain nothing of the arguments.
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
# What these make can be called, and stays unchanged.
_CALLABLE = ("transformers.", "sentence_transformers.", "torchvision.transforms.", "spacy.load")
LAYERS = _words("Conv1d Conv2d Embedding Flatten GELU GRU Identity LSTM LayerNorm Linear LogSoftmax MSELoss NLLLoss "
                 "CrossEntropyLoss BCELoss RNN ReLU Sigmoid Softmax Tanh")  # fmt: skip


def is_setting(function: str) -> bool:
    """Whether a function's name is that of one that sets something for the whole process."""
    return function.startswith(_SETTINGS)


def looks(method: str) -> bool:
    """Whether a method of that name leaves its object and its arguments unchanged."""
    return method in LOOKS | COPIES


def builtin_leaves(function: str) -> bool:
    """Whether a builtin, or a method of one (`list.append`), leaves its arguments unchanged."""
    first, _, method = function.partition(".")
    return first in BUILTINS and (not method or (method in LOOKS and method not in CONTAINER))


def module_leaves(origin: str) -> bool:
    """Whether a function of a module, e.g. "numpy.linalg.norm", leaves its arguments unchanged."""
    module, _, function = origin.rpartition(".")
    if function in _UNLESS or (function.endswith("_") and not function.startswith("_")):
        return False
    return _within(origin, _PURE) and not _within(module, _UNLESS_IN)


def builtin_gives_new(function: str) -> bool:
    first, _, method = function.partition(".")
    return method in _GIVES_NEW if method else first in _NEW


def copies_items(function: str) -> bool:
    """Whether the result is new, and contains the items of the arguments."""
    return function in _SHALLOW or function.rpartition(".")[2] in _COMPUTES - _NEW


def method_gives_new(method: str) -> bool:
    return method in _GIVES_NEW


def module_gives_new(origin: str) -> bool:
    return origin.rpartition(".")[2] in _FUNCTIONS_NEW or _within(origin, _MODULES_NEW)


def gives_frozen(origin: str) -> bool:
    """Whether the result of a module's function or class is immutable."""
    return origin in _FROZEN_OF or (_within(origin, ("math",)) and origin != "math")


def can_be_called(origin: str) -> bool:
    """Whether what a library's function or class makes stays unchanged when it is called."""
    return origin.startswith(_CALLABLE) or (origin.startswith("torch.nn.") and origin.rpartition(".")[2] in LAYERS)


def _within(origin: str, modules: tuple[str, ...]) -> bool:
    return any(origin == m or origin.startswith(f"{m}.") for m in modules)
