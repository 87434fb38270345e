"""Training on real text: a character model of each candidate, all from the same start and for the same time."""

import copy
import math
import time
from argparse import Namespace
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from impls import HyperLSTM
from impls.convert import to_labml
from impls.registry import resolve
from suite.measure.jobs import Job
from suite.measure.options import a_job_each
from suite.measure.stopwatch import stopwatch, warm_up
from suite.shared import usage
from suite.shared.candidates import LABML, LSTM, find, lstm_parameters
from suite.shared.cases import EXTERNAL, WORKLOADS, Case
from suite.shared.corpus import text

#: How long each model trains.
SECONDS = 12
#: Name of the LSTM with as many parameters as the HyperLSTM; the one of equal width has its own name.
LARGER_LSTM = f"{LSTM.name}, as many parameters"
#: One more curve, as the paper's character models are trained: "auto" with layer norm and recurrent dropout.
RECURRENT_DROPOUT = 0.1
RECIPE = f", recurrent dropout {RECURRENT_DROPOUT:g}"
#: Share of the text at its end that nothing trains on.
HELD_OUT = 0.1
#: Shares of the training time after which the held-out text is read; the clock is stopped then.
CHECKPOINTS = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 3 / 4, 1)
LEARNING_RATE, CLIP = 2e-3, 1.0
#: Streams that the held-out text is read in.
READERS = 32

State = tuple[Tensor, ...]


def jobs(options: Namespace) -> list[Job]:
    """Jobs, one for each model: of each candidate, of the LSTM in another width, and of the recipe."""
    return [
        replace(job, part=name, candidates=(name,))
        for job in a_job_each(options, "text", WORKLOADS[options.workload], limit=SECONDS)
        for name in (job.candidate, *_further(job))
    ]


def _further(job: Job) -> list[str]:
    """Further models of a candidate."""
    if job.candidate == LSTM.name:
        return [LARGER_LSTM]
    fastest = resolve("auto", job.device, job.torch_dtype).name
    return [job.candidate + RECIPE] if job.case.layer_norm and job.candidate == fastest else []


class CharModel(nn.Module):
    """Embedding, recurrent layer, softmax: characters [T, B] -> logits [T, B, classes]."""

    def __init__(self, recurrent: nn.Module, width: int, case: Case) -> None:
        super().__init__()
        self.embedding = nn.Embedding(case.I, case.I)
        self.recurrent = recurrent
        self.softmax = nn.Linear(width, case.I)

    def forward(self, ids: Tensor, state: State | None) -> tuple[Tensor, State]:
        """Logits and the last state, without its history."""
        out, last = self.recurrent(self.embedding(ids), state)
        return self.softmax(out), tuple(part.detach() for part in last)


def seeded(name: str, case: Case) -> CharModel:
    """Model of a name in float32 on the CPU.

    HyperLSTMs all start at the same values (paper, A.2.3), an LSTM at torch's own, embedding and softmax at the same.
    """
    width = equal_width(case) if name == LARGER_LSTM else case.H
    torch.manual_seed(0)
    model = CharModel(nn.Identity(), width, case)
    torch.manual_seed(1)
    if name in (LSTM.name, LARGER_LSTM):
        model.recurrent = nn.LSTM(case.I, width, case.L)
        return model
    dropout = RECURRENT_DROPOUT if name.endswith(RECIPE) else 0.0
    ours = HyperLSTM(case.I, case.H, case.S, case.Z, case.L, layer_norm=case.layer_norm, recurrent_dropout=dropout)
    if name in EXTERNAL:
        model.recurrent = find(name).build(case, torch.float32, torch.device("cpu"))
        start = ours.state_dict()
        model.recurrent.load_state_dict(to_labml(start) if name == LABML.name else start)
    else:
        ours.impl = name.removesuffix(RECIPE)
        model.recurrent = ours
    return model


def equal_width(case: Case) -> int:
    """Largest H at which an LSTM with its softmax has no more parameters than the HyperLSTM with its own."""
    wanted = case.parameters() + (case.H + 1) * case.I
    H = case.H
    while lstm_parameters(replace(case, H=H + 1)) + (H + 2) * case.I <= wanted:
        H += 1
    return H


class Streams:
    """B streams of text side by side, read in windows of T characters, from the start again after the end."""

    def __init__(self, ids: Tensor, T: int, B: int) -> None:
        """Cut ids [characters] into B streams; the remainder is dropped."""
        self.ids, self.T = ids[: ids.numel() // B * B].view(B, -1).T.contiguous(), T  # [characters of a stream, B]

    def __len__(self) -> int:
        return (self.ids.shape[0] - 1) // self.T

    def window(self, step: int) -> tuple[Tensor, Tensor]:
        """Window number `step` and the characters that follow each of its own: [T, B] twice."""
        start = step % len(self) * self.T
        return self.ids[start : start + self.T], self.ids[start + 1 : start + self.T + 1]


def parts(classes: int) -> tuple[Tensor, Tensor]:
    ids = text(classes).classes
    cut = int(ids.numel() * (1 - HELD_OUT))
    return ids[:cut], ids[cut:]


def rows(job: Job) -> Iterator[dict[str, Any]]:
    """Train one model for its time and yield a row at each checkpoint, the start first."""
    (name,) = job.candidates
    case, dtype, device = job.case, job.torch_dtype, job.device
    train, held_out = parts(case.I)
    training = Trainer(seeded(name, case).to(device, dtype), Streams(train.to(device), case.T, case.B))
    training.warm_up()
    about: dict[str, Any] = {
        "parameters": sum(p.numel() for p in training.model.parameters()),
        "width": training.model.softmax.in_features,
        "sha256": text(case.I).sha256,
        "learning_rate": LEARNING_RATE,
        "clip": CLIP,
        "held_out_share": HELD_OUT,
    }
    for share in (0.0, *CHECKPOINTS):
        training.until(job.limit * share)
        bits, characters = bits_per_character(training.model, held_out.to(device)), training.steps * case.T * case.B
        done = {"seconds": training.seconds, "steps": training.steps, "characters": characters, "bits": bits}
        yield job.row("curve", name) | about | done


class Trainer:
    """Adam with clipped gradients over windows of text; its clock runs only while it trains."""

    def __init__(self, model: CharModel, streams: Streams) -> None:
        self.model, self.streams = model, streams
        self.optimiser = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
        self.state: State | None = None
        self.steps, self.seconds = 0, 0.0

    def warm_up(self) -> None:
        """Take steps with a copy, so that everything is built and compiled when the clock starts."""
        warm_up(stopwatch(self.streams.ids.device), Trainer(copy.deepcopy(self.model), self.streams).step)

    def step(self) -> None:
        """Train on the next window, from the last state, or from zero at the start of the text."""
        if self.steps % len(self.streams) == 0:
            self.state = None
        ids, following = self.streams.window(self.steps)
        logits, self.state = self.model(ids, self.state)
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), following.flatten())
        self.optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), CLIP)
        self.optimiser.step()
        self.steps += 1

    def until(self, seconds: float) -> None:
        """Train until the clock shows `seconds`; the last step is finished."""
        while self.seconds < seconds:
            start = time.perf_counter()
            self.step()
            usage.synchronize(self.streams.ids.device)
            self.seconds += time.perf_counter() - start


def bits_per_character(model: CharModel, ids: Tensor) -> float:
    """Mean of -log2 p(next character) over a text, read in READERS streams from a zero state.

    A HyperLSTM reads with the fastest implementation, as all compute the same function.
    """
    reader, streams = copy.deepcopy(model).eval(), Streams(ids, 50, READERS)
    if isinstance(reader.recurrent, HyperLSTM):
        reader.recurrent.impl = "auto"
    total, state = 0.0, None
    with torch.no_grad():
        for step in range(len(streams)):
            window, following = streams.window(step)
            logits, state = reader(window, state)
            total += nn.functional.cross_entropy(logits.flatten(0, 1), following.flatten()).item()
    return total / len(streams) / math.log(2)
