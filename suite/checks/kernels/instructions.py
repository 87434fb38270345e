"""What the instructions of a compiled kernel show: barriers, widths of loads, loads that wait, repeated products.

A load cannot move across a barrier of the program, so loads between two barriers wait together and groups of loads
wait one after the other. The function that a load belongs to is known from the line numbers of the sources.
"""

import ast
import math
import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from impls import batched_cuda

#: Instructions of a group barrier in their order: all threads have written, a fence makes that visible to the whole
#: card, the program arrives; it polls, and invalidates its cache; all its threads go on.
BARRIER = ("BAR.SYNC", "MEMBAR.(ALL|SC).GPU", "RED|ATOM", "LDG.E.STRONG.GPU|ATOM", "CCTL.IVALL", "BAR.SYNC")
#: What no barrier may contain: a load or store of a phase, or an asynchronous copy.
_ACCESS = re.compile(r"(LDG(?!\.E\.STRONG)|LDGSTS|LDGDEPBAR|UBLKCP|UTMALDG|STG)")
_MULTIPLIES = re.compile(r"(HMMA|HGMMA|IMMA|QGMMA|UTC\w*MMA)")
_LOAD = re.compile(r"(LDG|LDGSTS)\.(?!E\.STRONG)")
#: Functions that load weights, and those that do so in a loop, ahead of their use.
WEIGHTS = {"weights", "hyper_weights", "some_columns", "d_columns", "turned"}
_AHEAD = {"sums", "product"}
#: The large products, which all warps of a program share.
_SHARED = {"sums", "products_back"}
#: Rows and columns of a matrix instruction of one warp, whose name ends with how many numbers it sums over.
_ROWS, _COLUMNS = 16, 8


class Instruction(NamedTuple):
    """One instruction, without its predicate, and where it is from: in the kernel, then in each function called."""

    text: str
    functions: tuple[str, ...] = ()
    lines: tuple[int, ...] = ()


def read(cubin: bytes) -> tuple[list[Instruction], dict[str, int]]:
    """Instructions of a cubin in their order, and where each label is among them."""
    instructions, labels = list[Instruction](), dict[str, int]()
    functions, lines, begins = list[str](), list[int](), True
    for line in tool(cubin, "nvdisasm", "-c", "-gi").splitlines():
        if at := re.search(r'//## File "([^"]+)", line (\d+)', line):
            if begins:
                functions, lines, begins = [], [], False
            functions.insert(0, _function(Path(at[1]).name, int(at[2])))
            lines.insert(0, int(at[2]))
        elif label := re.match(r"\s*(\.L_x_\d+):", line):
            labels[label[1]] = len(instructions)
        elif match := re.search(r"/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][^;]*)", line):
            instructions.append(Instruction(match[1].strip(), tuple(functions), tuple(lines)))
            begins = True
    return instructions, labels


@cache
def _function(file: str, line: int) -> str:
    """The function of a line of the sources; a file of Triton's own has none."""
    path = Path(batched_cuda.__file__).parent / file
    tree = ast.parse(path.read_text(encoding="utf-8") if path.exists() else "")
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    return next((node.name for node in functions if node.lineno <= line <= (node.end_lineno or 0)), file)


def tool(cubin: bytes, name: str, *options: str) -> str:
    """Output of one of the tools that Triton ships, for a cubin."""
    import triton

    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        command = [getattr(triton.knobs.nvidia, name).path, *options, file.name]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def barriers(instructions: Sequence[str]) -> int:
    """Number of group barriers; ValueError if the instructions of one are not those of `BARRIER`."""
    count = 0
    for start in (n for n, text in enumerate(instructions) if re.match(BARRIER[1], text)):
        count += 1
        before = next((text for text in instructions[start - 1 :: -1] if re.match("BAR.SYNC|STG|RED|ATOM", text)), "")
        if not start or not re.match(BARRIER[0], before):
            raise ValueError(f"barrier {count}: expected {BARRIER[0]} between all writes and the fence, got {before!r}")
        at = start
        for expected in BARRIER[2:]:
            later = next((n for n in range(at + 1, len(instructions)) if re.match(expected, instructions[n])), None)
            if later is None:
                raise ValueError(f"barrier {count}: expected {expected} after {instructions[at]}, got none")
            at = later
        between = [text for text in instructions[start:at] if _ACCESS.match(text)]
        if between or instructions[start + 1 : at].count(instructions[start]):
            raise ValueError(f"barrier {count}: expected no other load in it, got {between[:3]}")
    return count


def loops(instructions: Sequence[Instruction], labels: Mapping[str, int]) -> list[range]:
    """Innermost loops that have a matrix instruction."""
    every = list[range]()
    for n, (text, *_) in enumerate(instructions):
        jump = re.match(r"BRA.*\((\.L_x_\d+)\)", text)
        if jump and labels.get(jump[1], n + 1) <= n:
            every.append(range(labels[jump[1]], n + 1))
    multiply = [one for one in every if any(_MULTIPLIES.match(instructions[n].text) for n in one)]
    return [
        one for one in multiply if not any(other != one and other[0] in one and other[-1] in one for other in multiply)
    ]


def width(text: str) -> int:
    """Bytes that a load reads for a thread; what follows its name is an address."""
    bits = re.search(r"\.(U8|S8|U16|S16|64|128)\b", text.split()[0])
    return 4 if bits is None else int(bits[1].lstrip("US")) // 8


def narrow_loads(
    instructions: Sequence[Instruction],
    labels: Mapping[str, int],
    constants: Mapping[str, Any],
    threads: int,
    size: int,
) -> list[str]:
    """Loads of weights that are narrower than their rows allow, or that a loop of a product waits for.

    A thread loads at most 16 bytes, what divides a row, and its share of a tile.
    """
    wrong = Counter[str]()
    row = constants["Z"] * size  # of d_weight; others are of a multiple of 16 bytes
    tile = constants["DEPTH"] * min(constants.get(name) or 64 for name in ("COLUMNS", "EXTRA", "SPAN"))
    tile_of_d = constants.get("ZS", constants.get("ZN")) * constants["GATES"] * constants["UNITS"]
    for text, functions, _ in instructions:
        if _LOAD.match(text) and functions[-1] in WEIGHTS:
            of_d = functions[-1] in ("d_columns", "turned")
            most = min(16, row & -row, tile_of_d * size // threads) if of_d else min(16, tile * size // threads)
            if width(text) < most:
                wrong[f"{text.split()[0]} in {functions[-1]}"] += 1
    for loop in loops(instructions, labels):
        inside = [instructions[n] for n in loop]
        for text, functions, _ in () if _stores(inside) else inside:
            if text.startswith("LDG.") and _AHEAD & {*functions} and tile * size >= 4 * threads:
                wrong[f"{text.split()[0]} in a loop of {functions[1]}, which waits for it"] += 1
    return [f"{n} {what}" for what, n in wrong.items()]


def repeated(
    instructions: Sequence[Instruction], labels: Mapping[str, int], constants: Mapping[str, Any], warps: int
) -> list[str]:
    """Loops of a large product in which each warp multiplies more than its share, so that several do the same."""
    wrong, depth = list[str](), constants["DEPTH"]
    for loop in loops(instructions, labels):
        inside = [instructions[n] for n in loop]
        matches = [re.match(r"HMMA\.168(\d+)", text) for text, functions, _ in inside if _SHARED & {*functions}]
        summed = sum(int(match[1]) for match in matches if match)
        tiles = constants["ROWS"] * (constants["COLUMNS"] + constants.get("EXTRA", 0)) / (_ROWS * _COLUMNS)
        # A loop over tiles has all iterations over H, and over S of one or two products.
        of_tile = -(-constants["H"] // depth) + 2 * -(-constants["S"] // depth)
        most = math.ceil(tiles / warps) * depth * (of_tile if _stores(inside) else 1)
        if summed > most:
            wrong.append(f"a warp's product: expected sums over at most {most} numbers an iteration, got {summed}")
    return wrong


def _stores(loop: Iterable[Instruction]) -> bool:
    """Whether a loop is one over tiles, with the iterations of its products unrolled."""
    return any(text.startswith("STG") for text, *_ in loop)


def operands(ttir: str) -> set[tuple[str, ...]]:
    """The operations that make the left and the right operand of each product, in Triton's intermediate code."""
    return {
        tuple(re.findall(rf"{re.escape(name)} = (\S+)", ttir[: product.start()])[-1] for name in product.groups())
        for product in re.finditer(r"tt\.dot (%\w+), (%\w+),", ttir)
    }


def groups(instructions: Iterable[Instruction]) -> dict[str, int]:
    """Groups of loads of each function that the kernel calls, with a barrier of the program between them.

    One that loads only at lines of earlier groups is another iteration of an unrolled loop, and does not count.
    """
    count, waiting, seen = Counter[str](), set[str](), set[tuple[int, ...]]()
    for text, functions, lines in instructions:
        if text.startswith("BAR"):
            waiting = set()
        elif _LOAD.match(text) and len(functions) > 1 and lines not in seen:
            seen.add(lines)
            if functions[1] not in waiting:
                waiting.add(functions[1])
                count[functions[1]] += 1
    return dict(count)
