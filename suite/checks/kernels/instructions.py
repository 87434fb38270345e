"""What the instructions of a compiled kernel show: barriers between programs, and groups of loads that wait.

A load cannot move across a barrier of the program, so loads between two barriers wait together and groups of loads
wait one after the other. The function that a load belongs to is known from the line numbers of the sources.
"""

import ast
import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from impls import batched_cuda

#: Instructions of a group barrier in their order: all threads have written, a fence makes that visible to the whole
#: card, the program arrives; it polls, and invalidates its cache; all its threads go on.
BARRIER = ("BAR.SYNC", "MEMBAR.(ALL|SC).GPU", "RED|ATOM", "LDG.E.STRONG.GPU|ATOM", "CCTL.IVALL", "BAR.SYNC")
#: What no barrier may contain: a load or store of a phase, or an asynchronous copy.
_ACCESS = re.compile(r"(LDG(?!\.E\.STRONG)|LDGSTS|LDGDEPBAR|UBLKCP|UTMALDG|STG)")
_LOAD = re.compile(r"(LDG|LDGSTS)\.(?!E\.STRONG)")
#: A product of a warp's tile of 16 rows by 8 columns: its step along the sum, the first register of the right operand.
_PRODUCT = re.compile(r"HMMA\.168(16|8)\.\S+ R\d+, R\d+\S*, R(\d+)")
#: An instruction that writes registers: its name with what follows it, and the first register.
_WRITES = re.compile(r"([A-Z0-9]+)(\S*) (?:P\w+, )?R(\d+)\b")
#: The functions that load a tile of the weights of a product.
WEIGHTS = ("weights", "hyper_weights", "some_columns")
#: The function that rounds a tile to TF32.
ROUNDS = "tf32"


class Instruction(NamedTuple):
    """One instruction, without its predicate, and where it is from: in the kernel, then in each function called."""

    text: str
    functions: tuple[str, ...] = ()
    lines: tuple[int, ...] = ()


def read(cubin: bytes) -> list[Instruction]:
    """Instructions of a cubin in their order."""
    instructions = list[Instruction]()
    functions, lines, begins = list[str](), list[int](), True
    for line in tool(cubin, "nvdisasm", "-c", "-gi").splitlines():
        if at := re.search(r'//## File "([^"]+)", line (\d+)', line):
            if begins:
                functions, lines, begins = [], [], False
            functions.insert(0, _function(Path(at[1]).name, int(at[2])))
            lines.insert(0, int(at[2]))
        elif match := re.search(r"/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][^;]*)", line):
            instructions.append(Instruction(match[1].strip(), tuple(functions), tuple(lines)))
            begins = True
    return instructions


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


def load_bytes(text: str) -> int:
    """Bytes of a load that a thread asks for at a time: of the instruction, not of the addresses in it."""
    width = re.search(r"\.(U8|S8|U16|S16|64|128)$", text.split()[0])
    return {"U8": 1, "S8": 1, "U16": 2, "S16": 2, "64": 8, "128": 16}[width[1]] if width else 4


def narrowest_weights(instructions: Iterable[Instruction]) -> dict[str, int]:
    """The fewest bytes by which each function that multiplies loads weights."""
    least: dict[str, int] = {}
    for text, functions, _ in instructions:
        if _LOAD.match(text) and len(functions) > 1 and functions[-1] in WEIGHTS:
            least[functions[1]] = min(load_bytes(text), least.get(functions[1], 16))
    return least


def products_a_turn(instructions: Iterable[Instruction], stages: int) -> dict[tuple[str, int], float]:
    """By function and line of a loop, how far along the sum the products of one warp go in a turn, in all its tiles.

    Instructions of whole groups of warps do not count. Each turn of a loop that is unrolled has a batch of asynchronous
    copies, and `stages` - 1 come before it.
    """
    along, batches = Counter[tuple[str, int]](), Counter[tuple[str, int]]()
    for text, functions, lines in instructions:
        if len(functions) > 1:
            loop = functions[1], lines[1]
            if product := _PRODUCT.match(text):
                along[loop] += int(product[1])
            batches[loop] += text.startswith("LDGDEPBAR") and functions[-1] in WEIGHTS
    return {loop: n / max(1, batches[loop] - stages + 1) for loop, n in along.items()}


def rounded_weights(instructions: Iterable[Instruction]) -> list[str]:
    """Functions with a product whose right operand was rounded before it, as its last writer shows."""
    writers: dict[int, Instruction] = {}
    found = dict[str, None]()
    for one in instructions:
        product = _PRODUCT.match(one.text)
        if product and (writer := writers.get(int(product[2]))) and ROUNDS in writer.functions:
            found[one.functions[1]] = None
        if written := _WRITES.match(one.text):
            name, suffix, first = written[1], written[2], int(written[3])
            count = (
                4 if name == "HMMA" or suffix.endswith((".128", ".4")) else 2 if suffix.endswith((".64", ".2")) else 1
            )
            writers.update(dict.fromkeys(range(first, first + count), one))
    return list(found)
