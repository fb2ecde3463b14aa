"""A kit to test other implementations of the format with: strategies and laws.

Point it at your own callables, which speak plain data only (`nmref.testing.plain`)::

    from nmref.testing import Dense, Implementation, check

    print(check(Implementation(decode=my_decode, encode=my_encode)))

or, with one test for each law, under pytest::

    @pytest.mark.parametrize(("name", "law"), list(laws(Implementation(decode=my_decode))))
    def test_law(name, law):
        law()

README.md beside this file has an example and the report that it gives.  Needs the extra `testing`.
"""

try:
    import hypothesis as _hypothesis  # noqa: F401
except ModuleNotFoundError as error:  # pragma: no cover - tested in a process of its own
    if error.name != "hypothesis":
        raise
    raise ModuleNotFoundError(
        "nmref.testing needs Hypothesis: install nmref[testing]", name="hypothesis"
    ) from None

from nmref.testing import strategies
from nmref.testing.law import Law
from nmref.testing.plain import Dense, Implementation, Input, Parts, Refused, Spec
from nmref.testing.reference import REFERENCE
from nmref.testing.runner import LAWS, Report, Result, check, laws

__all__ = [
    "LAWS",
    "REFERENCE",
    "Dense",
    "Implementation",
    "Input",
    "Law",
    "Parts",
    "Refused",
    "Report",
    "Result",
    "Spec",
    "check",
    "laws",
    "strategies",
]
