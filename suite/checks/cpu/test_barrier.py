"""What threads of batched_cpu share: the barrier, in every order and in real threads, and errors."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from impls.batched_cpu import build
from suite.checks.cpu.programs import NEEDS_COMPILER, compiled, run
from suite.checks.faults.planting import listed

HERE = Path(__file__).parent
FAULTS = listed(HERE / "barrier.toml")
#: The kind of fault that shows without std::atomic::wait, which not every library has.
WITHOUT_A_SLEEP = "without a sleep"

pytestmark = [
    pytest.mark.impl(name="batched_cpu"),
    NEEDS_COMPILER,
]


MAIN = """
template <class Barrier>
std::string orders() {
  std::optional<Barrier> barrier;
  size_t states = 0;
  constexpr int kFew = 0, kMany = 200;  // repeated loads: fewer than in a spin, and more
  constexpr std::chrono::microseconds kNoSpin{0}, kSpin{1};
  for (const auto& [threads, rounds, repeats, spin] :
       {std::tuple{2, 3, kFew, kNoSpin}, {2, 3, kMany, kNoSpin}, {3, 2, kFew, kNoSpin}, {3, ROUNDS, kMany, kNoSpin},
        {2, 3, kMany, kSpin}}) {
    checked::Model& model = checked::Model::model();
    const bool may_sleep = spin == kNoSpin;
    const std::string wrong = model.explore(threads, repeats, may_sleep, [&] { barrier.emplace(); }, [&](int thread) {
      for (int round = 0; round < rounds; ++round) {
        model.access(round % 2 * threads + thread, true);
        barrier->wait(barrier->arrive(threads), spin);
        for (int other = 0; other < threads; ++other) model.access(round % 2 * threads + other, false);
      }
    });
    if (!wrong.empty()) return wrong;
    states += model.states();
  }
  return std::to_string(states);
}
"""


def orders(folder: Path, headers: Sequence[str], rounds: int) -> list[str]:
    """What each of several barriers does wrong in any order or, if nothing, the number of states that it can reach.

    rounds: of three threads that sleep, of which two take 20 times as long as one.
    """
    names = ('"orders.h"', "<cstdio>", "<optional>", "<tuple>")
    lines = [*(f"#include {name}" for name in names), "#define std checked"]
    for i, header in enumerate(headers):
        (folder / f"{i}.h").write_text(header)
        lines.append(f'namespace barrier{i} {{\n#include "{folder}/{i}.h"\n}}')
    calls = (f"  std::puts(orders<barrier{i}::hyperlstm::Barrier>().c_str());" for i in range(len(headers)))
    source = "\n".join([*lines, "#undef std", MAIN, "int main() {", *calls, "}"])
    return run(folder / "orders", source, "-O1", f"-I{HERE}", f"-DROUNDS={rounds}").split()


def test_every_order_of_threads_meets_and_faults_are_found(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    barrier = (build.FOLDER / "barrier.h").read_text()
    without_sleep = barrier.replace("__cpp_lib_atomic_wait", "NEVER")
    headers = [barrier, without_sleep]
    for fault in FAULTS:
        (edit,) = fault.edits
        headers.append(edit.applied(without_sleep if fault.kind == WITHOUT_A_SLEEP else barrier, fault.name))
    rounds = 2 if request.config.getoption("--thorough") else 1
    states, states_without_sleep, *findings = orders(tmp_path, headers, rounds)
    assert int(states) > 1000
    assert int(states_without_sleep) > 1000
    assert findings == [fault.finding for fault in FAULTS]


@pytest.mark.thread_sanitizer
def test_threads_sync_and_a_long_wait_sleeps(tmp_path: Path) -> None:
    source = HERE / "barrier_test.cpp"
    said = run(tmp_path / "barrier", f'#include "{source}"\n', "-O2", *build.extra_flags())
    assert said == "all in sync\n"


def test_of_threads_that_fail_at_once_one_exception_is_kept(tmp_path: Path) -> None:
    """Under the thread sanitizer, since the race seldom does harm."""
    program, sanitizer = tmp_path / "failure", ("-g", "-O1", "-fsanitize=thread")
    try:
        compiled(tmp_path / "empty", "int main() {}", *sanitizer)
    except subprocess.CalledProcessError:
        pytest.skip("the compiler has no thread sanitizer")
    compiled(program, f'#include "{HERE / "failure_test.cpp"}"\n', *sanitizer)
    # The sanitizer wants memory where it expects it.
    done = subprocess.run(["setarch", "-R", program], capture_output=True, text=True, timeout=120)
    assert done.stdout == "one exception each\n"
    assert done.returncode == 0, done.stderr
