"""Digests of code that change with what it does, not with comments, docstrings and layout.

They are of whole files, or of some definitions in a file with all that these use.
"""

import ast
import hashlib
import re
from collections.abc import Collection, Iterator
from functools import cache
from pathlib import Path
from typing import Any

#: Tokens of C++: literals, words, operators of several characters, and single characters.
_TOKEN = re.compile(
    r'"(?:\\.|[^"\\])*"|\'(?:\\.|[^\'\\])*\'|\w+|<=>|\.\.\.|->\*?|::|<<=?|>>=?|&&|\|\||\+\+|--|[-+*/%&|^!=<>]=|\S'
)
_COMMENT = re.compile(r'("(?:\\.|[^"\\])*"|\'(?:\\.|[^\'\\])*\')|//[^\n]*|/\*.*?\*/', re.DOTALL)
#: Fields of Python's syntax tree that say nothing about what the code does.
_SILENT = ("ctx", "kind", "type_comment")
#: Where a definition stands: its file, and its name there; "" for all of the file.
Place = tuple[Path, str]


def meaning(path: Path) -> str:
    """Text of a file of Python or C++ without comments, docstrings and layout."""
    text = path.read_text(encoding="utf-8")
    return _plain_python(text) if path.suffix == ".py" else _plain_cpp(text)


def digest(texts: Collection[str]) -> str:
    """Hash of several texts, in twelve hexadecimal digits."""
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:12]


@cache
def _plain_cpp(text: str) -> str:
    text = _COMMENT.sub(lambda found: found[1] or " ", text).replace("\\\n", " ")
    # A directive ends with its line.
    return "\1".join(_TOKEN.findall(re.sub(r"^[ \t]*#.*$", r"\g<0> @", text, flags=re.MULTILINE)))


@cache
def _plain_python(text: str) -> str:
    try:
        return repr(_tree(ast.parse(text)))
    except SyntaxError:  # a file of a user, while it is edited
        return text


def _tree(node: Any) -> Any:
    """Nested lists of a syntax tree; `ast.dump` writes another text in each version of Python."""
    if isinstance(node, list):
        return [_tree(each) for each in node if not _is_docstring(each)]
    if not isinstance(node, ast.AST):
        return repr(node)
    if isinstance(node, ast.JoinedStr):  # Python 3.12 has empty texts in some
        node = ast.JoinedStr([each for each in node.values if getattr(each, "value", None) != ""])
    fields = [(name, value) for name, value in ast.iter_fields(node) if name not in _SILENT]
    return [type(node).__name__, *([name, _tree(value)] for name, value in fields if value is not None and value != [])]


def _is_docstring(node: Any) -> bool:
    """True for a statement that is only a text."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def defines(path: Path, name: str) -> bool:
    """True if there is such a file, and it defines a name."""
    return path.exists() and name in _definitions(path.read_text(encoding="utf-8"))


def reached(places: Collection[Place], root: Path, packages: Collection[str]) -> list[str]:
    """Texts, as `meaning` gives them, of definitions and of all that they use; annotations are no use.

    packages: imports of these are followed. KeyError names a definition that a file lacks.
    """
    todo, texts = list(places), dict[Place, str]()
    while todo:
        path, name = place = todo.pop()
        if place not in texts:
            meant, used, imports = _part(path.read_text(encoding="utf-8"), name)
            texts[place] = f"{path.relative_to(root)} {name} {meant}"
            todo += [(path, each) for each in used]
            todo += filter(None, (_imported(each, root, packages) for each in imports))
    return [texts[place] for place in sorted(texts)]


@cache
def _part(text: str, name: str) -> tuple[str, list[str], list[ast.ImportFrom]]:
    """What defines a name, or all of a file, as `meaning` has it; other names of the file that it uses; its imports."""
    statements = _definitions(text)
    found = statements[name] if name else [each for every in statements.values() for each in every]
    # Statements that define nothing may change what others define.
    meant = repr(_tree([*found, *statements.get("", [])]))
    used = set[str]().union(*map(_used, found)) & statements.keys() - {name} if name else set[str]()
    return meant, sorted(used), [each for each in found if isinstance(each, ast.ImportFrom)]


@cache
def _definitions(text: str) -> dict[str, list[ast.stmt]]:
    """Statements of a file by the names that they define, methods as `Class.method`; "" for those that define none."""
    statements: dict[str, list[ast.stmt]] = {}
    for statement in ast.parse(text).body:
        for name, part in _defined(statement):
            statements.setdefault(name, []).append(part)
    return statements


def _defined(statement: ast.stmt) -> Iterator[tuple[str, ast.stmt]]:
    """Names that a statement defines, each with the part of it that does."""
    match statement:
        case ast.ClassDef(name=name, body=body):
            yield name, statement
            methods = (part for part in body if isinstance(part, ast.FunctionDef))
            yield from ((f"{name}.{method.name}", method) for method in methods)
        case ast.FunctionDef(name=name):
            yield name, statement
        case ast.Import(names=aliases):
            for alias in aliases:
                yield alias.asname or alias.name.split(".")[0], ast.Import([alias])
        case ast.ImportFrom(module=module, names=aliases, level=level):
            for alias in aliases:
                yield alias.asname or alias.name, ast.ImportFrom(module, [alias], level)
        case ast.Assign() | ast.AnnAssign() | ast.AugAssign():
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            names = [part for target in targets for part in ast.walk(target) if isinstance(part, ast.Name)]
            yield from ((each.id, statement) for each in names)
        case _ if not _is_docstring(statement):
            yield "", statement


def _used(node: ast.AST) -> set[str]:
    """Names that a statement uses, without those of annotations."""
    names, todo = set[str](), [node]
    while todo:
        part = todo.pop()
        if isinstance(part, ast.Name):
            names.add(part.id)
        fields = (value for name, value in ast.iter_fields(part) if name not in ("annotation", "returns"))
        for value in fields:
            todo += [each for each in (value if isinstance(value, list) else [value]) if isinstance(each, ast.AST)]
    return names


def _imported(statement: ast.ImportFrom, root: Path, packages: Collection[str]) -> Place | None:
    """Place of what a statement imports, if it is in a module of these packages."""
    module = statement.module or ""
    if not any(f"{module}.".startswith(f"{package}.") for package in packages):
        return None
    folder, name = root.joinpath(*module.split(".")), statement.names[0].name
    if (whole := folder / f"{name}.py").exists():
        return whole, ""
    file = folder.with_suffix(".py")
    return (file, name) if file.exists() else None
