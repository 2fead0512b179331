"""Two published claims on state tracking, reproduced by generated ops at lengths never trained.

    python examples/state_tracking.py [--quick] [--full]

Parity: the model says after every bit whether the ones so far are odd. A delta rule with beta in
[0, 2] reflects its state and learns this; with beta in [0, 1] its eigenvalues lie in [0, 1] and it
does not (Grazzi et al. 2024, arXiv:2411.12537).

Permutations: after every permutation the model names the product of all so far. One Householder
factor a token is a reflection, n are a product of n; S3 needs 2 for its rotations, S5 4 for its
cycles of five (Siems et al. 2025, arXiv:2502.10297). ``--full`` adds S5 with n = 1, 2 and 4: all
120 permutations, after those that move at most three things.

The models have one layer and no convolution, and every pair differs in its op alone. Printed is
the mean accuracy over all positions, several seeds each, at the length trained and beyond.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from mixer import Block, Mixer, Model, Size, shipped
from torch import Tensor
from torch.nn import functional

import lincodegen
from lincodegen.resources import specs_dir


@dataclass(frozen=True, slots=True)
class Task:
    """Products in a finite group: ``table[a, b]`` is a followed by b, 0 the neutral element.

    Parity is the group of two elements.
    """

    name: str
    table: Tensor
    start: bool = False
    """Whether a start token comes first, whose write the permutations can act on."""
    easy: Tensor | None = None
    """Elements that the first 3 of 10 parts of a training keep to; None: all."""

    @property
    def order(self) -> int:
        """How many elements the group has."""
        return len(self.table)

    def sample(
        self, batch: int, length: int, generator: torch.Generator, easy: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Random elements [batch, length] and their running products, both behind the start."""
        elements = self.easy if easy and self.easy is not None else torch.arange(self.order)
        tokens = elements[torch.randint(len(elements), (batch, length), generator=generator)]
        product, products = torch.zeros(batch, dtype=torch.long), []
        for token in tokens.unbind(1):
            product = self.table[product, token]
            products.append(product)
        answers = torch.stack(products, 1)
        if self.start:
            tokens = functional.pad(tokens, (1, 0), value=self.order)
            answers = functional.pad(answers, (1, 0))
        return tokens, answers


def symmetric_group(size: int, start: bool = False, easy: int | None = None) -> Task:
    """All permutations of ``size`` things; easy ones move at most so many of them."""
    elements = list(itertools.permutations(range(size)))
    number = {element: i for i, element in enumerate(elements)}
    rows = [[number[tuple(b[i] for i in a)] for b in elements] for a in elements]
    moved = torch.tensor([sum(i != a for i, a in enumerate(element)) for element in elements])
    few = None if easy is None else (moved <= easy).nonzero()[:, 0]
    return Task(f"S{size}", torch.tensor(rows), start, few)


@dataclass(frozen=True, slots=True)
class Training:
    """How a model is trained; evaluation is at ``length`` and at each of ``longer``."""

    steps: int
    batch: int
    length: int
    longer: tuple[int, ...]
    size: Size
    seeds: int
    learning_rate: float

    def at(self, step: int, has_easy: bool) -> tuple[int, bool]:
        """The length of sequences at a step, and whether their elements are easy.

        Lengths grow from 2 over the first 3 of 5 parts of the steps; where easy elements come
        first, over 2 of their 3 parts of 10 and again over the next 4.
        """
        if not has_easy:
            return min(self.length, 2 + 5 * self.length * step // (3 * self.steps)), False
        easy = 10 * step < 3 * self.steps
        grown = 5 * step / self.steps if easy else (10 * step / self.steps - 3) / 4
        return min(self.length, 2 + int(self.length * grown)), easy


@dataclass(frozen=True, slots=True)
class Case:
    """An op on a task."""

    task: Task
    spec: str
    sets: Mapping[str, int]
    training: Training

    @property
    def label(self) -> str:
        """The op's name, with its constants."""
        return " ".join([self.spec, *(f"{name}={value}" for name, value in self.sets.items())])


PARITY = Task("parity", torch.tensor([[0, 1], [1, 0]]))
SMALL = Size(width=64, heads=2, key=16, value=16, window=0)
PARITY_TRAINING = Training(600, 32, 64, (128, 256, 512), SMALL, seeds=3, learning_rate=1e-2)
S3_TRAINING = Training(600, 64, 32, (64, 128, 256), SMALL, seeds=3, learning_rate=1e-2)
S5_TRAINING = Training(
    6000, 128, 16, (32, 64, 128), replace(SMALL, heads=4, value=32), seeds=1, learning_rate=4e-3
)


def cases(full: bool) -> list[Case]:
    """All cases, in the order of the table."""
    found = [
        Case(PARITY, "delta_rule", {}, PARITY_TRAINING),
        Case(PARITY, "delta_rule_negative", {}, PARITY_TRAINING),
    ]
    found += [Case(symmetric_group(3), "delta_product", {"n": n}, S3_TRAINING) for n in (1, 2)]
    if full:
        task = symmetric_group(5, start=True, easy=3)
        found += [Case(task, "delta_product", {"n": n}, S5_TRAINING) for n in (1, 2, 4)]
    return found


def build(case: Case, seed: int) -> Model:
    """A model of one layer."""
    torch.manual_seed(seed)
    op: Any = lincodegen.load(specs_dir() / f"{case.spec}.yaml", sets=case.sets)
    size = case.training.size
    mixer = Mixer(shipped(case.spec, case.sets), op, size)
    block = Block(mixer, size.width, 2 * size.width)
    return Model(case.task.order + case.task.start, case.task.order, [block], size.width)


def train(case: Case, seed: int) -> Model:
    """A model after its training."""
    training, model = case.training, build(case, seed)
    generator = torch.Generator().manual_seed(seed)
    # decay of the weights would pull beta away from the end of its range, where states last
    optimizer = torch.optim.AdamW(model.parameters(), lr=training.learning_rate, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, training.learning_rate, total_steps=training.steps, pct_start=0.1
    )
    for step in range(training.steps):
        length, easy = training.at(step, case.task.easy is not None)
        tokens, products = case.task.sample(training.batch, length, generator, easy)
        loss = functional.cross_entropy(model(tokens).flatten(0, 1), products.flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return model


@torch.no_grad()
def accuracy(model: Model, task: Task, length: int) -> float:
    """Share of right answers over all elements of fresh sequences."""
    generator = torch.Generator().manual_seed(length)
    tokens, products = task.sample(64, length, generator)
    right = model(tokens).argmax(-1) == products
    return right[:, int(task.start) :].float().mean().item()


def run(case: Case) -> None:
    """Trains a case on every seed and prints its line."""
    start = time.perf_counter()
    lengths = (case.training.length, *case.training.longer)
    rows = []
    for seed in range(case.training.seeds):
        model = train(case, seed)
        rows.append([accuracy(model, case.task, length) for length in lengths])
    cells = []
    for length, values in zip(lengths, zip(*rows, strict=True), strict=True):
        mean = sum(values) / len(values)
        cells.append(f"{length:>4}: {mean:.3f} ({min(values):.3f} to {max(values):.3f})")
    seconds = time.perf_counter() - start
    print(
        f"{case.task.name:<7} {case.label:<20} {'   '.join(cells)}   {seconds:6.1f} s", flush=True
    )


def main() -> int:
    """Prints a line a case."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="few steps: shows that it runs")
    parser.add_argument("--full", action="store_true", help="S5 as well: half an hour more")
    options = parser.parse_args()
    print(
        f"accuracy at a length: mean (least to most) over seeds; {torch.get_num_threads()} threads"
    )
    for case in cases(options.full):
        if options.quick:
            training = replace(case.training, steps=20, batch=8, seeds=1, longer=(80,))
            case = replace(case, training=training)
        run(case)
    return 0


if __name__ == "__main__":
    sys.exit(main())
