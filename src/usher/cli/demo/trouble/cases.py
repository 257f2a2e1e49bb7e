"""The thirty cases of ``--trouble``: the learner's question, its cause and the repair."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from usher.cli.demo.errors import DemoError

#: Short name → course key and title.
RUNS = {
    "main": ("course-v1:Trouble+Biology+2026", "Biology for Everybody"),
    "other": ("course-v1:Trouble+Physics+2026", "Physics by Experiment"),
    "closed": ("course-v1:Trouble+Poetry+2026", "Poetry of the Baltic"),
    "upcoming": ("course-v1:Trouble+Economics+2026", "Economics of Small Towns"),
    "full": ("course-v1:Trouble+Pottery+2026", "Pottery, a Small Class"),
    "upgrade": ("course-v1:Trouble+Statistics+2026", "Statistics with a Certificate"),
    "gone": ("course-v1:Trouble+Geology+2026", "Geology of Rivers"),
    "moved": ("course-v1:Trouble+History+2026", "History of Railways"),
}
#: A key that no run has.
MISTYPED = "course-v1:Trouble+Biolgy+2026"

#: Username → full name, short name of the run they enroll in ('' for none), and mode.
LEARNERS: dict[str, tuple[str, str, str]] = {
    "amira": ("Amira Haddad", "closed", "audit"),
    "boris": ("Boris Ivanov", "upcoming", "audit"),
    "chen": ("Chen Wei", "full", "audit"),
    "dalia": ("Dalia Cohen", "main", "honor"),
    "emil": ("Emil Larsen", "upgrade", "verified"),
    "fatima": ("Fatima Zahra", MISTYPED, "audit"),
    "hana": ("Hana Sato", "gone", "audit"),
    "jana": ("Jana Novakova", "main", "audit"),
    "kofi": ("Kofi Mensah", "main", "audit"),
    "lena": ("Lena Vogel", "", ""),
    "marek": ("Marek Nowak", "main", "audit"),
    "nadia": ("Nadia Rahimi", "main", "audit"),
    "omar": ("Omar Said", "main", "audit"),
    "petra": ("Petra Kovacs", "main", "audit"),
    "quentin": ("Quentin Moreau", "main", "audit"),
    "rosa": ("Rosa Bianchi", "main", "audit"),
    "samir": ("Samir Khan", "main", "audit"),
    "tomas": ("Tomas Berg", "main", "audit"),
    "uma": ("Uma Patel", "main", "verified"),
    "viktor": ("Viktor Orlov", "main", "audit"),
    "wanda": ("Wanda Zielinska", "main", "audit"),
    "xavier": ("Xavier Dupont", "", ""),
    "yara": ("Yara Costa", "", ""),
    "zeno": ("Zeno Marino", "main", "audit"),
    "adele": ("Adele Martin", "main", "audit"),
    "bruno": ("Bruno Alves", "main", "audit"),
    "clara": ("Clara Schmidt", "main", "audit"),
    "dmitri": ("Dmitri Sokolov", "main", "audit"),
    "elif": ("Elif Kaya", "main", "audit"),
    "gita": ("Gita Rao", "moved", "audit"),
}


@dataclass(frozen=True)
class Case:
    """One case. learner: username in the application. says: the learner's question to support.
    cause, repair: the answer.

    expected: the state of the application and the LMS after things are broken: name → value, with
    names such as ``application account`` or ``LMS account``. address: the learner's e-mail address
    if it isn't derived from the username.
    """

    learner: str
    says: str
    cause: str
    repair: str
    expected: Mapping[str, Any] = field(default_factory=dict)
    address: str = ""

    @property
    def email(self) -> str:
        return self.address or f"{self.learner}@learners.example"

    def require_expected(self, observed: Mapping[str, Any]) -> None:
        """Raises DemoError if ``observed``, the state found by :class:`Trouble`, differs from
        ``expected``."""
        for name, expected_value in self.expected.items():
            if observed.get(name) != expected_value:
                raise DemoError(
                    f"{self.learner} should have {expected_value!r} as {name!r} and has "
                    f"{observed.get(name)!r}; the observed values are {dict(observed)}"
                )

    def as_dict(self) -> dict[str, str]:
        return {
            "learner": self.learner,
            "email": self.email,
            "says": self.says,
            "cause": self.cause,
            "repair": self.repair,
        }


CASES: tuple[Case, ...] = (
    Case(
        learner="amira",
        says="I signed up for Poetry of the Baltic and can't open it.",
        cause=(
            "The run has accepted no enrollments in the LMS for nine days, so the LMS refuses her."
        ),
        repair=(
            "Set a later end of enrollment for the run in the LMS, then Repair now; or tell her "
            "that enrollment is closed."
        ),
        expected={"application enrollment closed": "Refused enrollment-closed"},
    ),
    Case(
        learner="boris",
        says="Economics of Small Towns doesn't show up in my courses.",
        cause="In the LMS, enrollment in the run begins in thirty days.",
        repair=(
            "Repair now in thirty days; or set an earlier start of enrollment for the run in the "
            "LMS, then Repair now."
        ),
        expected={"application enrollment upcoming": "Refused enrollment-closed"},
    ),
    Case(
        learner="chen",
        says="I signed up for the pottery class on its first day, and I am not in it.",
        cause="The run has one place, and another learner has it.",
        repair="Raise the limit in the LMS, then Repair now.",
        expected={"application enrollment full": "Refused course-full"},
    ),
    Case(
        learner="dalia",
        says="Everybody from my class is in Biology but me.",
        cause="An import enrolled her in the mode honor, which the run does not have.",
        repair=(
            "Change the mode to audit in the application's admin; a worker then enrolls her in the "
            "LMS."
        ),
        expected={"application enrollment main": "Refused mode-unavailable"},
    ),
    Case(
        learner="emil",
        says="I bought the certificate for Statistics and the course is missing.",
        cause="The upgrade deadline of the verified mode has passed in the LMS.",
        repair=(
            "Move the deadline in the LMS, then Repair now; or change the mode to audit in the "
            "application's admin and refund him."
        ),
        expected={"application enrollment upgrade": "Refused mode-unavailable"},
    ),
    Case(
        learner="fatima",
        says="My course says that it is not available.",
        cause="Her enrollment is in a run whose key is mistyped (Biolgy): the LMS has no such run.",
        repair="Enroll her in the right run and delete this enrollment.",
        expected={"application enrollment course-v1:Trouble+Biolgy+2026": "Refused unknown-run"},
    ),
    Case(
        learner="hana",
        says="Geology was on my dashboard last week.",
        cause=(
            "The run was deleted from the LMS, as her page says at the top. Her enrollment was in "
            "sync before."
        ),
        repair=(
            "Restore the run in the LMS. The application finds it within the hour, or with "
            "Synchronise now on the run's page."
        ),
        expected={
            "application enrollment gone": "In sync",
            "application missing": ["course-v1:Trouble+Geology+2026"],
        },
    ),
    Case(
        learner="jana",
        says="I can't get into any course.",
        cause=(
            "She had registered in the LMS herself, with the same e-mail address. The LMS creates "
            "no second account, and accounts are never linked automatically."
        ),
        repair=(
            "Have her prove that the account jana is hers. Compare with the LMS now, link the "
            "account that the page offers, and give the LMS's staff the usher_link command that "
            "the page then shows."
        ),
        expected={
            "application account": "Refused duplicate-email",
            "application enrollment main": "Pending account-refused",
            "LMS account": "none",
        },
    ),
    Case(
        learner="kofi",
        says="In the forum my name ends in a number.",
        cause="Another person had the username kofi in the LMS before him.",
        repair="Nothing is broken: usernames in the LMS are unique and never change.",
        expected={"application account": "In sync", "LMS account": "active"},
    ),
    Case(
        learner="lena",
        says="I signed up yesterday and can't start.",
        cause="Her e-mail address is not confirmed, so no LMS account is created.",
        repair=(
            "Have her sign in to the application, which sends the confirmation again. Her account "
            "is created within ten minutes after she confirms, or with Repair now."
        ),
        expected={"application account": "Pending unconfirmed", "LMS account": "none"},
    ),
    Case(
        learner="marek",
        says="The course site says that my account is disabled.",
        cause="Staff of the LMS deactivated the account.",
        repair=(
            "Ask them why. Then activate the account in the LMS, or with the action Activate in "
            "the LMS in the application's admin."
        ),
        expected={"application account": "Deactivated in the LMS", "LMS account": "inactive"},
    ),
    Case(
        learner="nadia",
        says="I can't sign in anywhere.",
        cause=(
            "Her user was deactivated in the application, which also deactivated the LMS account."
        ),
        repair=(
            "If that was a mistake, activate the user in the application's admin. A worker then "
            "activates the LMS account."
        ),
        expected={
            "application account": "In sync",
            "LMS account": "inactive",
            "application active in the LMS": False,
        },
    ),
    Case(
        learner="omar",
        says="My course and all my answers are gone.",
        cause=(
            "His account was deleted from the LMS's database, and the application got no message "
            "about it."
        ),
        repair=(
            "Compare with the LMS now shows that the account is missing. Repair now creates the "
            "account and the enrollment again. His answers can be restored only from the LMS's "
            "backup."
        ),
        expected={"application account": "In sync", "LMS account": "none"},
    ),
    Case(
        learner="petra",
        says="None of my courses are there since I changed my name.",
        cause="Staff of the LMS changed her username, and usernames must never change.",
        repair=(
            "Compare with the LMS now shows the new username. Change it back to petra in the LMS's "
            "admin, then Repair now."
        ),
        expected={
            "application account": "In sync",
            "LMS account": "none",
            "LMS linked to": "petra_married",
        },
    ),
    Case(
        learner="quentin",
        says="The course site does not let me in: it says that an account exists.",
        cause="The link between his LMS account and the application was deleted in the LMS.",
        repair=(
            "Compare with the LMS now shows the usher_link command for the LMS's staff. Then "
            "Repair now renews his token."
        ),
        expected={"application account": "In sync", "LMS account": "active", "LMS linked to": ""},
    ),
    Case(
        learner="rosa",
        says="After signing in I see somebody else's courses.",
        cause=(
            "Her sign-in is linked to the LMS account rosa_b, which belongs to another Rosa "
            "Bianchi."
        ),
        repair=(
            "Urgent. Compare with the LMS now shows the usher_link --move command for the LMS's "
            "staff. Then Repair now renews her token."
        ),
        expected={"application account": "In sync", "LMS linked to": "rosa_b"},
    ),
    Case(
        learner="samir",
        says="I deleted my old account and now I can't get a new one.",
        cause=(
            "His e-mail address belongs to a retired LMS account, and the LMS never releases such "
            "an address."
        ),
        repair="He needs another e-mail address. Then Repair now.",
        expected={"application account": "Refused duplicate-email", "LMS account": "none"},
    ),
    Case(
        learner="tomas",
        says="I was removed from Biology.",
        cause="Somebody unenrolled him in the LMS; in the application he is enrolled.",
        repair=(
            "Compare with the LMS now shows the difference. If he should be enrolled, Repair now."
        ),
        expected={"application enrollment main": "In sync", "LMS enrollment main": "left"},
    ),
    Case(
        learner="uma",
        says="I paid for a certificate and the exam is locked.",
        cause="She is enrolled as audit in the LMS, and as verified in the application.",
        repair="Compare with the LMS now, then Repair now.",
        expected={"application enrollment main": "In sync", "LMS enrollment main": "audit"},
    ),
    Case(
        learner="viktor",
        says="Why do I get mail from Physics? I never enrolled.",
        cause=(
            "Somebody enrolled him in Physics in the LMS. The application has recorded the "
            "enrollment, as the audit log on his page shows."
        ),
        repair=(
            "Ask who enrolled him. Then unenroll him in the LMS, or with the action Unenroll in "
            "the LMS in the application's admin."
        ),
        expected={"LMS enrollment other": "audit"},
    ),
    Case(
        learner="wanda",
        says="I left Biology and it is still there.",
        cause="She unenrolled in the application, but is enrolled in the LMS again.",
        repair="Compare with the LMS now, then Repair now.",
        expected={"application enrollment main": "In sync", "LMS enrollment main": "audit"},
    ),
    Case(
        learner="xavier",
        says="My colleague says that I am enrolled, but I have no course.",
        cause="He has two users. xavier@work.example is enrolled, this one is not.",
        repair="Tell him which address to sign in with.",
        expected={"application account": "none"},
    ),
    Case(
        learner="yara",
        says="I signed up and have no course.",
        cause="She never enrolled. Her account is in sync, and no enrollment was requested.",
        repair="Have her enroll.",
        expected={"application account": "In sync", "LMS account": "active"},
    ),
    Case(
        learner="zeno",
        says="My progress page here is empty.",
        cause=(
            "His tokens were revoked in the LMS. In the application the token has not expired, so "
            "it looks valid."
        ),
        repair=(
            "Compare with the LMS now shows that the LMS refuses the token. Repair now obtains a "
            "new one."
        ),
        expected={"application token": "valid", "LMS tokens": 0},
    ),
    Case(
        learner="adele",
        says="Sometimes my progress shows, sometimes not.",
        cause=(
            "The LMS's clock was wrong when her token was issued, so the token's expiry date is a "
            "year ago."
        ),
        repair=(
            "Compare with the LMS now shows the date. The token is renewed when it is needed, or "
            "with Repair now."
        ),
        expected={"application token": "ended"},
    ),
    Case(
        learner="bruno",
        says="My progress page shows an error.",
        cause="His token was encrypted with a key that is no longer configured.",
        repair=(
            "Compare with the LMS now shows that no key decrypts it. Add the old key after the new "
            "one in USHER_ENCRYPTION_KEYS. If the key is lost, Repair now obtains a new token."
        ),
        expected={"application token": "unreadable"},
    ),
    Case(
        learner="clara",
        says="I enrolled in Physics some minutes ago and it is not there.",
        cause=(
            "A worker was killed while it had claimed the record. The claim lasts for at most nine "
            "minutes."
        ),
        repair="Wait: her page says when another worker claims the record.",
        expected={"application enrollment other": "Pending"},
    ),
    Case(
        learner="dmitri",
        says="I enrolled in Physics yesterday and it is still not there.",
        cause="The LMS was down. After fourteen attempts, the next one is up to 100 minutes away.",
        repair="Repair now.",
        expected={"application enrollment other": "Retrying server-error"},
    ),
    Case(
        learner="elif",
        says="I changed my e-mail address, and the course still writes to the old one.",
        cause="Another LMS account has the new address, so the LMS refuses the change.",
        repair=(
            "Find out whose account elif_1 is. If it is hers too, give it another address in the "
            "LMS, then Repair now."
        ),
        expected={"application profile": "Refused duplicate-email"},
        address="elif.new@learners.example",
    ),
    Case(
        learner="gita",
        says="History of Railways says that it has ended. My friend is still in it.",
        cause="The application has the run's dates of last year. In the LMS the run is open.",
        repair=(
            "Compare with the LMS now shows the other end date. Synchronise now on the run's page "
            "copies it; so does the next hourly synchronisation."
        ),
        expected={"application enrollment moved": "In sync"},
    ),
)
