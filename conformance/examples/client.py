"""A conformance client for one operation, unrank (SPEC 2.14), in plain Python."""

import json
import sys
from math import comb


def unrank(code, n, m):
    """Mask of a code, bit i for column i."""
    mask = 0
    for p in reversed(range(m)):
        if n and code >= comb(p, n):
            mask, code, n = mask | 1 << p, code - comb(p, n), n - 1
    return mask


for line in sys.stdin:
    message = json.loads(line)
    if message["type"] == "stop":
        break
    if message["type"] == "start":
        claims = {"name": "example", "version": "1", "ops": ["unrank"]}
        answer = {"type": "start", "protocol": 1, **claims}
    else:
        n, m = map(int, message["input"]["pattern"].split(":"))
        codes = [int(code, 16) for code in message["input"]["codes"]]
        masks = [f"{unrank(code, n, m):x}" if code < comb(m, n) else None for code in codes]
        answer = {"type": "result", "id": message["id"], "output": {"masks": masks}}
    print(json.dumps(answer), flush=True)
