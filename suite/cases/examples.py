"""A small case, for tests."""

from dataclasses import replace

import torch

from suite.cases.workloads import WORKLOADS

#: Few steps and rows of the workload *small*.
TINY = replace(WORKLOADS["small"].case, T=3, B=2)
CPU = torch.device("cpu")
