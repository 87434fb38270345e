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
    instructions: list[Instruction] = []
    functions: list[str] = []
    numbers: list[int] = []
    begins = True
    for line in tool(cubin, "nvdisasm", "-c", "-gi").splitlines():
        place = re.search(r'//## File "([^"]+)", line (\d+)', line)
        instruction = re.search(r"/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][^;]*)", line)
        if place:
            if begins:
                functions = []
                numbers = []
                begins = False
            number = int(place[2])
            functions.insert(0, _function(Path(place[1]).name, number))
            numbers.insert(0, number)
        elif instruction:
            text = instruction[1].strip()
            instructions.append(Instruction(text, tuple(functions), tuple(numbers)))
            begins = True
    return instructions


@cache
def _function(file: str, line: int) -> str:
    """The function of a line of the sources; a file of Triton's own has none."""
    path = Path(batched_cuda.__file__).parent / file
    tree = ast.parse(path.read_text(encoding="utf-8") if path.exists() else "")
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.lineno <= line <= (node.end_lineno or 0):
            return node.name
    return file


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
    for start, fence in enumerate(instructions):
        if not re.match(BARRIER[1], fence):
            continue
        count += 1
        earlier = instructions[start - 1 :: -1]
        before = next((text for text in earlier if re.match("BAR.SYNC|STG|RED|ATOM", text)), "")
        if not start or not re.match(BARRIER[0], before):
            raise ValueError(f"barrier {count}: expected {BARRIER[0]} between all writes and the fence, got {before!r}")
        at = start
        for expected in BARRIER[2:]:
            later = next((n for n in range(at + 1, len(instructions)) if re.match(expected, instructions[n])), None)
            if later is None:
                raise ValueError(f"barrier {count}: expected {expected} after {instructions[at]}, got none")
            at = later
        between = [text for text in instructions[start:at] if _ACCESS.match(text)]
        if between or fence in instructions[start + 1 : at]:
            raise ValueError(f"barrier {count}: expected no other load in it, got {between[:3]}")
    return count


def groups(instructions: Iterable[Instruction]) -> dict[str, int]:
    """Groups of loads of each function that the kernel calls, with a barrier of the program between them.

    One that loads only at lines of earlier groups is another iteration of an unrolled loop, and does not count.
    """
    count = Counter[str]()
    waiting: set[str] = set()
    seen: set[tuple[int, ...]] = set()
    for text, functions, lines in instructions:
        if text.startswith("BAR"):
            waiting = set()
        elif _LOAD.match(text) and len(functions) > 1 and lines not in seen:
            function = functions[1]
            seen.add(lines)
            if function not in waiting:
                waiting.add(function)
                count[function] += 1
    return dict(count)


def load_bytes(text: str) -> int:
    """Bytes of a load that a thread asks for at a time: of the instruction, not of the addresses in it."""
    widths = {"U8": 1, "S8": 1, "U16": 2, "S16": 2, "64": 8, "128": 16}
    name, *_ = text.split()
    _, _, suffix = name.rpartition(".")
    return widths.get(suffix, 4)


def narrowest_weights(instructions: Iterable[Instruction]) -> dict[str, int]:
    """The fewest bytes by which each function that multiplies loads weights."""
    least: dict[str, int] = {}
    for text, functions, _ in instructions:
        if _LOAD.match(text) and len(functions) > 1 and functions[-1] in WEIGHTS:
            function = functions[1]
            least[function] = min(load_bytes(text), least.get(function, 16))
    return least


def products_a_turn(instructions: Iterable[Instruction], stages: int) -> dict[tuple[str, int], float]:
    """By function and line of a loop, how far along the sum the products of one warp go in a turn, in all its tiles.

    Instructions of whole groups of warps do not count. Each turn of a loop that is unrolled has a batch of asynchronous
    copies, and `stages` - 1 come before it.
    """
    along = Counter[tuple[str, int]]()
    batches = Counter[tuple[str, int]]()
    for text, functions, lines in instructions:
        if len(functions) < 2:
            continue
        loop = functions[1], lines[1]
        product = _PRODUCT.match(text)
        if product:
            along[loop] += int(product[1])
        if text.startswith("LDGDEPBAR") and functions[-1] in WEIGHTS:
            batches[loop] += 1
    return {loop: steps / max(1, batches[loop] - stages + 1) for loop, steps in along.items()}


def rounded_weights(instructions: Iterable[Instruction]) -> list[str]:
    """Functions with a product whose right operand was rounded before it, as its last writer shows."""
    writers: dict[int, Instruction] = {}
    rounded: dict[str, None] = {}
    for instruction in instructions:
        product = _PRODUCT.match(instruction.text)
        if product:
            writer = writers.get(int(product[2]))
            if writer is not None and ROUNDS in writer.functions:
                rounded[instruction.functions[1]] = None
        written = _WRITES.match(instruction.text)
        if written:
            name, suffix, first = written.groups()
            count = 1
            if name == "HMMA" or suffix.endswith((".128", ".4")):
                count = 4
            elif suffix.endswith((".64", ".2")):
                count = 2
            for register in range(int(first), int(first) + count):
                writers[register] = instruction
    return list(rounded)
