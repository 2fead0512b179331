"""A library of planted peers, and runs too small to say anything about speed."""

from lincodegen.bench import session
from lincodegen.bench.measure import Effort
from lincodegen.bench.peers import Peer
from lincodegen.bench.shapes import Shape, Work

PLANTED = """
import torch
from lincodegen.ops import gated_delta_rule

def right(q, k, v, g, beta):
    return gated_delta_rule(q, k, v, g, beta)

def wrong(q, k, v, g, beta):
    return right(q, k, v, g, beta)[0] * 1.01

def wrong_late(q, k, v, g, beta):
    o = right(q, k, v, g, beta)[0].clone()
    o[:, -1, -1] += 1
    return o

def wrong_gradient(q, k, v, g, beta):
    return right(q, k, v.detach(), g, beta)[0] + 0 * v

def wrong_gradient_late(q, k, v, g, beta):
    return right(q, k, torch.cat([v[:, :-1], v[:, -1:].detach()], 1), g, beta)[0]

def raising(q, k, v, g, beta):
    raise RuntimeError("no kernel for these sizes\\nand a long story")

def misshapen(q, k, v, g, beta):
    return right(q, k, v, g, beta)[0].transpose(1, 2)
"""

EFFORT = Effort(seconds=0.0, least=3, most=3)
OPTIONS = session.Options(effort=EFFORT, oracle_tokens=(64, 16), probe=(1 << 16, 32))


def planted(function: str, **fields) -> Peer:
    given = {"arguments": "q k v g beta", "on_cpu": True, **fields}
    given = {"name": function, "path": f"planted_peers:{function}", **given}
    return Peer(library="planted-peers", op="gated_delta_rule", **given)


def work(mode: str = "forward", tokens: int = 24, op: str = "gated_delta_rule") -> Work:
    return Work(op, Shape(1, tokens, 2, size=8), mode)
