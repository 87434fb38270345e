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
    without_comments = _COMMENT.sub(lambda match: match[1] or " ", text)
    joined = without_comments.replace("\\\n", " ")
    # A directive ends with its line.
    marked = re.sub(r"^[ \t]*#.*$", r"\g<0> @", joined, flags=re.MULTILINE)
    return "\1".join(_TOKEN.findall(marked))


@cache
def _plain_python(text: str) -> str:
    try:
        return repr(_tree(ast.parse(text)))
    except SyntaxError:  # a file of a user, while it is edited
        return text


def _tree(node: Any) -> Any:
    """Nested lists of a syntax tree; `ast.dump` writes another text in each version of Python."""
    if isinstance(node, list):
        return [_tree(part) for part in node if not _is_docstring(part)]
    if not isinstance(node, ast.AST):
        return repr(node)
    if isinstance(node, ast.JoinedStr):  # Python 3.12 has empty texts in some
        node = ast.JoinedStr([part for part in node.values if getattr(part, "value", None) != ""])
    tree: list[Any] = [type(node).__name__]
    for name, value in ast.iter_fields(node):
        empty = value is None or value == []
        if name not in _SILENT and not empty:
            tree.append([name, _tree(value)])
    return tree


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
    todo = list(places)
    texts = dict[Place, str]()
    while todo:
        place = todo.pop()
        if place in texts:
            continue
        path, name = place
        meant, used, imports = _part(path.read_text(encoding="utf-8"), name)
        texts[place] = f"{path.relative_to(root)} {name} {meant}"
        todo += [(path, other) for other in used]
        for statement in imports:
            imported = _imported(statement, root, packages)
            if imported is not None:
                todo.append(imported)
    return [texts[place] for place in sorted(texts)]


@cache
def _part(text: str, name: str) -> tuple[str, list[str], list[ast.ImportFrom]]:
    """What defines a name, or all of a file, as `meaning` has it; other names of the file that it uses; its imports."""
    statements = _definitions(text)
    used = set[str]()
    if name:
        parts = statements[name]
        for part in parts:
            used |= _used(part)
        used &= statements.keys() - {name}
    else:
        parts = [part for of_name in statements.values() for part in of_name]
    imports = [part for part in parts if isinstance(part, ast.ImportFrom)]
    # Statements that define nothing may change what others define.
    meant = repr(_tree([*parts, *statements.get("", [])]))
    return meant, sorted(used), imports


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
            methods = [part for part in body if isinstance(part, ast.FunctionDef)]
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
            yield from ((part.id, statement) for part in names)
        case _ if not _is_docstring(statement):
            yield "", statement


def _used(node: ast.AST) -> set[str]:
    """Names that a statement uses, without those of annotations."""
    names = set[str]()
    todo = [node]
    while todo:
        part = todo.pop()
        if isinstance(part, ast.Name):
            names.add(part.id)
        for name, value in ast.iter_fields(part):
            if name in ("annotation", "returns"):
                continue
            values = value if isinstance(value, list) else [value]
            todo += [child for child in values if isinstance(child, ast.AST)]
    return names


def _imported(statement: ast.ImportFrom, root: Path, packages: Collection[str]) -> Place | None:
    """Place of what a statement imports, if it is in a module of these packages."""
    module = statement.module or ""
    if not any(f"{module}.".startswith(f"{package}.") for package in packages):
        return None
    folder = root.joinpath(*module.split("."))
    name = statement.names[0].name
    whole = folder / f"{name}.py"
    if whole.exists():
        return whole, ""
    file = folder.with_suffix(".py")
    return (file, name) if file.exists() else None
