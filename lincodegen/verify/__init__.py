"""Stage ``verify``: a recurrence and an op to a Verdict.

``reference`` is the oracle: the recurrence itself, token by token, in float64. ``harness``
draws inputs, runs op and oracle, forward and backward, and compares.
"""

from lincodegen.verify.call import Op, naive_op
from lincodegen.verify.harness import Plan, verify, verify_trials
from lincodegen.verify.reference import run
from lincodegen.verify.verdict import Row, Verdict

__all__ = ["Op", "Plan", "Row", "Verdict", "naive_op", "run", "verify", "verify_trials"]
