"""Headers that cost a careless reader hours or its stack: each ends at once, with its code.

A quadratic reader would not finish these in a test run; a recursive one would overflow.
"""

import pytest

from nmref.container.safetensors import parse_header
from nmref.errors import NmrefError

MANY = 1_000_000

HEADERS = {
    "quotes in an open string": b'{"' + rb"\"" * MANY,
    "backslashes": b'{"' + b"\\" * MANY,
    "open strings": b'{"a":' + b'"' * MANY,
    "brackets": b"{" + b"[" * MANY,
    "objects": b'{"a":' * MANY,
    "a name twice at the end of many": b"{"
    + b",".join(b'"%d":0' % i for i in range(200_000))
    + b',"7":0}',
    "digits": b'{"a":' + b"9" * MANY + b"}",
    "surrogates": b'{"a":"' + rb"\ud800" * 100_000 + b'"}',
    "white space": b"{" + b" " * MANY,
    "closing brackets": b"{" + b"]" * MANY,
}


@pytest.mark.parametrize("name", HEADERS)
def test_hostile_header_ends_in_its_code(name: str):
    with pytest.raises(NmrefError, match=r"^E_HEADER "):
        parse_header(HEADERS[name], 0)
