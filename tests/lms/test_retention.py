"""Old rows in the plugin's tables are deleted automatically."""

from __future__ import annotations

import json

from tests.lms.conftest import Lms, wait_for

OLD = "datetime('now', '-40 days')"


def test_old_rows_are_deleted(lms: Lms, name: str) -> None:
    # An old message, an id of a used logout token, and a session.
    lms.sign_in(name)
    lms.execute(
        "insert into usher_lms_message (application_id, event_id, type, username, course_id, "
        "created, attempts, next_attempt_at, last_error) select id, ?, 'account.changed', ?, '', "
        f"{OLD}, 1, {OLD}, '' from usher_lms_connectedapplication limit 1",
        f"{abs(hash(name)):032x}"[:32],
        name,
    )
    lms.execute(
        f"insert into usher_lms_usedtoken (issuer, jti, at) values ('x', ?, {OLD})",
        name,
    )
    user = "(select id from auth_user where username = ?)"
    lms.execute(f"update usher_lms_learnersession set created = {OLD} where user_id = {user}", name)

    result = lms.run("usher_send_events")

    assert json.loads(result.stdout.splitlines()[-1])["forgotten"] >= 3
    assert lms.execute(f"select 1 from usher_lms_learnersession where user_id = {user}", name) == []
    assert lms.execute("select 1 from usher_lms_usedtoken where jti = ?", name) == []
    old_messages = f"select 1 from usher_lms_message where username = ? and created < {OLD}"
    assert wait_for(lambda: lms.execute(old_messages, name) == [])
