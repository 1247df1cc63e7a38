"""The rules of the house, read off the source itself."""

import ast
import importlib
import re
import sys
import tokenize
from collections.abc import Iterator
from functools import cache
from io import StringIO
from pathlib import Path

import pytest
from attrs import Factory, frozen

from domain.errors import PaymentError

ROOT = Path(__file__).parent.parent
LAYERS = ("domain", "application", "adapters", "entrypoints")
BELOW = {  # the layers that each layer may import, itself among them
    "domain": {"domain"},
    "application": {"domain", "application"},
    "adapters": {"domain", "application", "adapters"},
    "entrypoints": set(LAYERS),
}
AIOHTTP = {"aiohttp", "multidict", "yarl"}  # with the two whose types its interface speaks in
MAY_USE = {  # foreign packages, room by room; the longest name that fits counts
    "domain": {"attrs"},
    "application": {"attrs"},
    "adapters": {"attrs"},
    "adapters/http": {"attrs", *AIOHTTP, "jwt", "msgspec"},
    "adapters/metrics": {"attrs", "prometheus_client"},
    "adapters/store": {"attrs", "aiosqlite", "asyncpg", "msgspec"},
    "adapters/webhook": {"attrs", *AIOHTTP, "standardwebhooks"},
    "adapters/wechat": {"attrs", *AIOHTTP, "cryptography", "lxml", "msgspec"},
    "adapters/wechat/simulator": {"attrs", *AIOHTTP, "cryptography", "dotenv", "lxml"},
    "entrypoints": {
        "attrs",
        *AIOHTTP,
        "cryptography",
        "dependency_injector",
        "dotenv",
        "msgspec",
        "structlog",
        "tqdm",
        "uvloop",
    },
}
# Time, chance and the outside world enter the core as arguments. To wait for several
# answers side by side needs none of them, so these of asyncio's are the one exception.
SIDE_BY_SIDE = {"gather", "create_task", "wait", "FIRST_COMPLETED", "Task", "CancelledError"}
IMPURE = {"asyncio", "os", "random", "secrets", "socket", "sqlite3", "subprocess", "time", "uuid"}
CLOCKS = {"now", "today", "utcnow"}
FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 40


@frozen
class Module:
    """One file of ours: its place in the tree, and what is written in it."""

    path: str
    text: str
    tree: ast.Module = Factory(lambda module: ast.parse(module.text), takes_self=True)

    @property
    def layer(self) -> str:
        return self.path.split("/")[0]

    @property
    def room(self) -> str:
        """`adapters/http/api.py` is in `adapters/http`, `adapters/webhook.py` a room of its own."""
        return "/".join(self.path.split("/")[:2]).removesuffix(".py")

    @property
    def imports(self) -> Iterator[str]:
        """The dotted name of every module that is imported, wherever in the file."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module in LAYERS:
                yield from (f"{node.module}.{alias.name}" for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                yield node.module or "."

    def comments(self, word: str) -> list[str]:
        """The comments that hold the word; strings that do are none."""
        if not re.search(word, self.text):
            return []
        tokens = tokenize.generate_tokens(StringIO(self.text).readline)
        comments = [token.string for token in tokens if token.type == tokenize.COMMENT]
        return [comment for comment in comments if re.search(word, comment)]


@cache
def files(*folders: str) -> list[Module]:
    paths = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    return [Module(path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")) for path in paths]


# -- the rules: each yields what breaks it ---------------------------------------------------


def imports_point_down(module):
    for name in module.imports:
        top = name.split(".")[0]
        if top in LAYERS and top not in BELOW[module.layer]:
            yield name


def imports_name_their_layer(module):
    for node in ast.walk(module.tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            yield f"line {node.lineno}"


def rooms_never_meet(module):
    for name in module.imports:
        top, room, *_ = [*name.split("."), ""]
        if module.layer == top == "adapters" and f"adapters/{room}" != module.room:
            yield name


def foreign_packages_stay_in_their_rooms(module):
    place = module.path.removesuffix(".py") + "/"
    room = max((room for room in MAY_USE if place.startswith(f"{room}/")), key=len)
    for name in module.imports:
        top = name.split(".")[0]
        if top not in {*LAYERS, *MAY_USE[room]} | sys.stdlib_module_names:
            yield name


def the_core_is_pure(module):
    if module.layer not in {"domain", "application"}:
        return
    beside = {"asyncio"} if module.layer == "application" else set()
    yield from {name.split(".")[0] for name in module.imports} & (IMPURE - beside)
    for node in ast.walk(module.tree):
        if isinstance(node, ast.ImportFrom) and node.module == "asyncio":
            yield "from asyncio import"
        if (
            isinstance(node, ast.Attribute)
            and ast.unparse(node.value) == "asyncio"
            and node.attr not in SIDE_BY_SIDE
        ):
            yield f"asyncio.{node.attr}"
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") in CLOCKS:
            yield f"a clock is read in line {node.lineno}"
        if isinstance(node, ast.Constant) and isinstance(node.value, float):
            yield f"the float {node.value} in line {node.lineno}"


def only_the_settings_read_the_environment(module):
    if module.path == "entrypoints/settings.py":
        return
    for node in ast.walk(module.tree):
        name = getattr(node, "attr", getattr(node, "name", getattr(node, "id", "")))
        if name in {"environ", "environb", "getenv", "getenvb"}:
            yield name


def nothing_outgrows_a_screen(module):
    lines = len(module.text.splitlines())
    if lines > FILE_LINES_MAX:
        yield f"{lines} lines"
    for node in ast.walk(module.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or 0) - node.lineno + 1
            if lines > FUNCTION_LINES_MAX:
                yield f"{node.name} has {lines} lines"


def a_module_says_what_it_is(module):
    if module.text.strip() and not ast.get_docstring(module.tree):
        yield "no docstring"


def nothing_is_left_to_do(module):
    yield from module.comments(r"\b(TODO|FIXME|XXX|HACK)\b")


def a_suppression_names_its_rule_and_its_reason(module):
    for comment in module.comments("noqa"):
        if not re.search(r"# noqa: [A-Z]+\d+(, [A-Z]+\d+)* - \S", comment):
            yield comment
    for comment in module.comments("type: ignore"):
        if not re.search(r"# type: ignore\[[a-z, -]+\]", comment):
            yield comment


RULES = [
    imports_point_down,
    imports_name_their_layer,
    rooms_never_meet,
    foreign_packages_stay_in_their_rooms,
    the_core_is_pure,
    only_the_settings_read_the_environment,
    nothing_outgrows_a_screen,
    a_module_says_what_it_is,
    nothing_is_left_to_do,
    a_suppression_names_its_rule_and_its_reason,
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_house_keeps_its_rules(rule):
    broken = [f"{module.path}: {what}" for module in files(*LAYERS) for what in rule(module)]
    assert not broken, "\n".join(broken)


def test_the_tests_keep_the_rules_that_concern_them():
    rules = [nothing_is_left_to_do, a_suppression_names_its_rule_and_its_reason, a_module_says_what_it_is]
    broken = [
        f"{module.path}: {what}" for module in files("tests") for rule in rules for what in rule(module)
    ]
    assert not broken, "\n".join(broken)


@pytest.mark.parametrize(
    ("rule", "path", "text"),
    [
        (imports_point_down, "domain/order.py", "import application.payments"),
        (imports_point_down, "application/payments.py", "from adapters import store"),
        (imports_point_down, "adapters/webhook.py", "def f():\n    from entrypoints.settings import x"),
        (imports_name_their_layer, "domain/order.py", "from .fee import yuan"),
        (imports_name_their_layer, "domain/order.py", "from . import fee"),
        (rooms_never_meet, "adapters/http/api.py", "from adapters.store.sqlite import SqliteStore"),
        (rooms_never_meet, "adapters/http/api.py", "from adapters import store"),
        (rooms_never_meet, "adapters/webhook.py", "import adapters.http.api"),
        (foreign_packages_stay_in_their_rooms, "domain/order.py", "import lxml.etree"),
        (foreign_packages_stay_in_their_rooms, "application/jobs.py", "from aiohttp import web"),
        (
            foreign_packages_stay_in_their_rooms,
            "adapters/http/api.py",
            "from dependency_injector import wiring",
        ),
        (foreign_packages_stay_in_their_rooms, "adapters/store/sqlite.py", "import cryptography"),
        (foreign_packages_stay_in_their_rooms, "adapters/metrics.py", "import aiohttp"),
        (the_core_is_pure, "domain/order.py", "import asyncio"),
        (the_core_is_pure, "application/jobs.py", "from time import monotonic"),
        (the_core_is_pure, "application/jobs.py", "asyncio.sleep(1)"),
        (the_core_is_pure, "application/jobs.py", "from asyncio import sleep"),
        (the_core_is_pure, "application/jobs.py", "at = datetime.now(UTC)"),
        (the_core_is_pure, "domain/fee.py", "RATE = 0.006"),
        (only_the_settings_read_the_environment, "entrypoints/cli.py", "os.environ['HOME']"),
        (only_the_settings_read_the_environment, "adapters/webhook.py", "from os import getenv"),
        (nothing_outgrows_a_screen, "domain/order.py", "\n" * 401),
        (nothing_outgrows_a_screen, "domain/order.py", "@slow\nasync def f():\n" + "    x = 1\n" * 40),
        (a_module_says_what_it_is, "domain/order.py", "import re"),
        (
            nothing_is_left_to_do,
            "domain/order.py",
            "x = 1  # TODO: more",
        ),  # the rule reads only real comments
        (a_suppression_names_its_rule_and_its_reason, "domain/order.py", "x = 1  # noqa"),
        (a_suppression_names_its_rule_and_its_reason, "domain/order.py", "x = 1  # noqa: E501"),
        (a_suppression_names_its_rule_and_its_reason, "domain/order.py", "x = 1  # type: ignore"),
    ],
)
def test_each_rule_sees_what_breaks_it(rule, path, text):
    assert list(rule(Module(path, text)))


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (
            "domain/order.py",
            '"""The order."""\nfrom attrs import Factory, frozen\nfrom domain.fee import yuan',
        ),
        ("application/jobs.py", '"""Jobs."""\nimport asyncio\nx = asyncio.gather()  # noqa: E501 - long'),
        (
            "adapters/webhook.py",
            '"""Webhook."""\nfrom adapters.webhook import x\nfrom application.jobs import y',
        ),
        ("adapters/http/api.py", '"""API."""\nfrom adapters.http import errors\nimport msgspec, datetime'),
        ("entrypoints/settings.py", '"""Settings."""\nimport os\nx = os.environ\nfrom adapters import store'),
        ("domain/order.py", '"""The order."""\n' + "\n" * 399),
        ("domain/order.py", '"""The order."""\n@slow\ndef f():\n' + "    x = 1\n" * 39),
        ("domain/__init__.py", ""),
    ],
)
def test_what_keeps_the_rules_is_left_in_peace(path, text):
    assert [what for rule in RULES for what in rule(Module(path, text))] == []


def test_every_refusal_has_a_code_of_its_own():
    for module in files("domain", "application", "adapters"):
        if not module.path.endswith("__init__.py"):
            importlib.import_module(module.path.removesuffix(".py").replace("/", "."))
    refusals, codes = [PaymentError], {}
    for refusal in refusals:
        refusals.extend(c for c in refusal.__subclasses__() if c.__module__.split(".")[0] in LAYERS)
        assert "code" in vars(refusal), f"{refusal.__name__} has no code of its own"
        assert re.fullmatch(r"[A-Z][A-Z0-9_]*[A-Z0-9]", refusal.code)
        assert codes.setdefault(refusal.code, refusal) is refusal, f"two refusals are {refusal.code}"
    assert len(codes) > 25


def test_the_tree_of_refusals_is_drawn_whole():
    text = (ROOT / "domain/errors.py").read_text(encoding="utf-8")
    drawn = re.findall(r"[├└]── (\w+)", ast.get_docstring(ast.parse(text)) or "")
    assert set(drawn) == {node.name for node in ast.parse(text).body if isinstance(node, ast.ClassDef)} - {
        "PaymentError"
    }
