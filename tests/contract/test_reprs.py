"""``repr`` of an object with a secret does not show the secret, since tracebacks and error reports
print values."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from usher.client.http import Answer
from usher.client.payloads import Registered
from usher.connect.process import Runner
from usher.contract.provisioning import ServiceWorker
from usher.contract.secret_values import Secrets

SOURCE = Path(__file__).resolve().parents[2] / "src" / "usher"
#: Names of fields that hold secrets, environments of processes, or whole answers.
SECRET = re.compile(r"token|secret|secrets|password|cookies|environment|env|body|headers")
#: Matches a whole name that is or ends with such a word.
SUFFIX = re.compile(rf"(\w*_)?({SECRET.pattern})")
#: Fields that are no secrets: names of columns, flags, expectations of an answer, and values of a
#: class that hides them itself.
HARMLESS = {
    ("Adapter", "token"),
    ("Learner", "has_token"),
    ("Expectation", "headers"),
    ("Expectation", "body"),
    ("LmsContext", "secrets"),
    ("Runner", "secrets"),
}


def fields_in_reprs() -> set[tuple[str, str]]:
    """(class, field) for each field of a dataclass that has the name of a secret and is shown in
    the repr."""
    fields = set()
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef) and is_dataclass_with_default_repr(node):
                fields |= {(node.name, name) for name in shown_secrets(node)}
    return fields


def is_dataclass_with_default_repr(node: ast.ClassDef) -> bool:
    decorators = "".join(ast.unparse(decorator) for decorator in node.decorator_list)
    has_own_repr = any(getattr(statement, "name", "") == "__repr__" for statement in node.body)
    return "dataclass" in decorators and not has_own_repr


def shown_secrets(dataclass: ast.ClassDef) -> set[str]:
    names = set()
    for statement in dataclass.body:
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            default = "" if statement.value is None else ast.unparse(statement.value)
            if SUFFIX.fullmatch(statement.target.id) and "repr=False" not in default:
                names.add(statement.target.id)
    return names


def test_a_field_with_the_name_of_a_secret_is_not_in_a_repr() -> None:
    assert fields_in_reprs() - HARMLESS == set()


def test_the_repr_of_an_object_with_a_secret_does_not_show_the_secret() -> None:
    secret = "a-secret-of-some-length"
    secrets = Secrets()
    secrets.add([secret])
    worker = ServiceWorker(username="w", email="w@x.example", token=secret)
    answer = Answer(200, headers={"set-cookie": secret}, body=secret.encode())  # type: ignore[arg-type]
    for value in (
        secrets,
        Runner(secrets, env={"KEY": secret}),
        worker,
        answer,
        Registered("ada", 1, {"sessionid": secret}),
    ):
        assert secret not in repr(value)
