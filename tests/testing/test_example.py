"""The example of nmref/testing/README.md gives the report that stands there."""

import re
from pathlib import Path
from typing import Any

from nmref import testing

README = Path(testing.__file__).with_name("README.md")


def test_example_gives_its_report(capsys: Any) -> None:
    text = README.read_text(encoding="utf-8")
    code = re.findall(r"```python\n(.*?)```", text, re.DOTALL)[0]
    report = re.findall(r"```text\n(.*?)```", text, re.DOTALL)[0]
    assert len(code.splitlines()) <= 30
    exec(compile(code, str(README), "exec"), {})
    assert capsys.readouterr().out == report


def test_table_of_laws_names_modules_that_exist() -> None:
    for name in re.findall(r"`(\w+)\.py`", README.read_text(encoding="utf-8")):
        assert README.with_name(f"{name}.py").exists(), name
