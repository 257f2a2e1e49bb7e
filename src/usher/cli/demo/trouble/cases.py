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

    observed: name → value, such as ``application account`` or ``LMS account``; the state of the
    application and the LMS after things are broken. address: the learner's e-mail address if it
    isn't derived from the username.
    """

    learner: str
    says: str
    cause: str
    repair: str
    observed: Mapping[str, Any] = field(default_factory=dict)
    address: str = ""

    @property
    def email(self) -> str:
        return self.address or f"{self.learner}@learners.example"

    def expect(self, observed: Mapping[str, Any]) -> None:
        """Raises DemoError if ``observed`` differs from the case's state."""
        for name, value in self.observed.items():
            if observed.get(name) != value:
                raise DemoError(
                    f"{self.learner} should have {value!r} as {name!r} and has "
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
        "amira",
        "I signed up for Poetry of the Baltic and can't open it.",
        "The run has accepted no enrollments in the LMS for nine days, so the LMS refuses her.",
        "Set a later end of enrollment for the run in the LMS, then Repair now; or tell her "
        "that enrollment is closed.",
        {"application enrollment closed": "Refused enrollment-closed"},
    ),
    Case(
        "boris",
        "Economics of Small Towns doesn't show up in my courses.",
        "In the LMS, enrollment in the run begins in thirty days.",
        "Repair now in thirty days; or set an earlier start of enrollment for the run in the "
        "LMS, then Repair now.",
        {"application enrollment upcoming": "Refused enrollment-closed"},
    ),
    Case(
        "chen",
        "I signed up for the pottery class on its first day, and I am not in it.",
        "The run has one place, and another learner has it.",
        "Raise the limit in the LMS, then Repair now.",
        {"application enrollment full": "Refused course-full"},
    ),
    Case(
        "dalia",
        "Everybody from my class is in Biology but me.",
        "An import enrolled her in the mode honor, which the run does not have.",
        "Change the mode to audit in the application's admin; a worker then enrolls her in the "
        "LMS.",
        {"application enrollment main": "Refused mode-unavailable"},
    ),
    Case(
        "emil",
        "I bought the certificate for Statistics and the course is missing.",
        "The upgrade deadline of the verified mode has passed in the LMS.",
        "Move the deadline in the LMS, then Repair now; or change the mode to audit in the "
        "application's admin and refund him.",
        {"application enrollment upgrade": "Refused mode-unavailable"},
    ),
    Case(
        "fatima",
        "My course says that it is not available.",
        "Her enrollment is in a run whose key is mistyped (Biolgy): the LMS has no such run.",
        "Enroll her in the right run and delete this enrollment.",
        {"application enrollment course-v1:Trouble+Biolgy+2026": "Refused unknown-run"},
    ),
    Case(
        "hana",
        "Geology was on my dashboard last week.",
        "The run was deleted from the LMS, as her page says at the top. Her enrollment was in "
        "sync before.",
        "Restore the run in the LMS. The application finds it within the hour, or with "
        "Synchronise now on the run's page.",
        {
            "application enrollment gone": "In sync",
            "application missing": ["course-v1:Trouble+Geology+2026"],
        },
    ),
    Case(
        "jana",
        "I can't get into any course.",
        "She had registered in the LMS herself, with the same e-mail address. The LMS creates "
        "no second account, and accounts are never linked automatically.",
        "Have her prove that the account jana is hers. Compare with the LMS now, link the "
        "account that the page offers, and give the LMS's staff the usher_link command that the"
        " page then shows.",
        {
            "application account": "Refused duplicate-email",
            "application enrollment main": "Pending account-refused",
            "LMS account": "none",
        },
    ),
    Case(
        "kofi",
        "In the forum my name ends in a number.",
        "Another person had the username kofi in the LMS before him.",
        "Nothing is broken: usernames in the LMS are unique and never change.",
        {"application account": "In sync", "LMS account": "active"},
    ),
    Case(
        "lena",
        "I signed up yesterday and can't start.",
        "Her e-mail address is not confirmed, so no LMS account is created.",
        "Have her sign in to the application, which sends the confirmation again. Her account is "
        "created within ten minutes after she confirms, or with Repair now.",
        {"application account": "Pending unconfirmed", "LMS account": "none"},
    ),
    Case(
        "marek",
        "The course site says that my account is disabled.",
        "Staff of the LMS deactivated the account.",
        "Ask them why. Then activate the account in the LMS, or with the action Activate in the "
        "LMS in the application's admin.",
        {"application account": "Deactivated in the LMS", "LMS account": "inactive"},
    ),
    Case(
        "nadia",
        "I can't sign in anywhere.",
        "Her user was deactivated in the application, which also deactivated the LMS account.",
        "If that was a mistake, activate the user in the application's admin. A worker then "
        "activates the LMS account.",
        {
            "application account": "In sync",
            "LMS account": "inactive",
            "application active in the LMS": False,
        },
    ),
    Case(
        "omar",
        "My course and all my answers are gone.",
        "His account was deleted from the LMS's database, and the application got no message "
        "about it.",
        "Compare with the LMS now shows that the account is missing. Repair now creates the "
        "account and the enrollment again. His answers can be restored only from the LMS's "
        "backup.",
        {"application account": "In sync", "LMS account": "none"},
    ),
    Case(
        "petra",
        "None of my courses are there since I changed my name.",
        "Staff of the LMS changed her username, and usernames must never change.",
        "Compare with the LMS now shows the new username. Change it back to petra in the LMS's "
        "admin, then Repair now.",
        {"application account": "In sync", "LMS account": "none", "LMS linked to": "petra_married"},
    ),
    Case(
        "quentin",
        "The course site does not let me in: it says that an account exists.",
        "The link between his LMS account and the application was deleted in the LMS.",
        "Compare with the LMS now shows the usher_link command for the LMS's staff. Then Repair"
        " now renews his token.",
        {"application account": "In sync", "LMS account": "active", "LMS linked to": ""},
    ),
    Case(
        "rosa",
        "After signing in I see somebody else's courses.",
        "Her sign-in is linked to the LMS account rosa_b, which belongs to another Rosa Bianchi.",
        "Urgent. Compare with the LMS now shows the usher_link --move command for the LMS's "
        "staff. Then Repair now renews her token.",
        {"application account": "In sync", "LMS linked to": "rosa_b"},
    ),
    Case(
        "samir",
        "I deleted my old account and now I can't get a new one.",
        "His e-mail address belongs to a retired LMS account, and the LMS never releases such an "
        "address.",
        "He needs another e-mail address. Then Repair now.",
        {"application account": "Refused duplicate-email", "LMS account": "none"},
    ),
    Case(
        "tomas",
        "I was removed from Biology.",
        "Somebody unenrolled him in the LMS; in the application he is enrolled.",
        "Compare with the LMS now shows the difference. If he should be enrolled, Repair now.",
        {"application enrollment main": "In sync", "LMS enrollment main": "left"},
    ),
    Case(
        "uma",
        "I paid for a certificate and the exam is locked.",
        "She is enrolled as audit in the LMS, and as verified in the application.",
        "Compare with the LMS now, then Repair now.",
        {"application enrollment main": "In sync", "LMS enrollment main": "audit"},
    ),
    Case(
        "viktor",
        "Why do I get mail from Physics? I never enrolled.",
        "Somebody enrolled him in Physics in the LMS. The application has recorded the "
        "enrollment, as the audit log on his page shows.",
        "Ask who enrolled him. Then unenroll him in the LMS, or with the action Unenroll in the "
        "LMS in the application's admin.",
        {"LMS enrollment other": "audit"},
    ),
    Case(
        "wanda",
        "I left Biology and it is still there.",
        "She unenrolled in the application, but is enrolled in the LMS again.",
        "Compare with the LMS now, then Repair now.",
        {"application enrollment main": "In sync", "LMS enrollment main": "audit"},
    ),
    Case(
        "xavier",
        "My colleague says that I am enrolled, but I have no course.",
        "He has two users. xavier@work.example is enrolled, this one is not.",
        "Tell him which address to sign in with.",
        {"application account": "none"},
    ),
    Case(
        "yara",
        "I signed up and have no course.",
        "She never enrolled. Her account is in sync, and no enrollment was requested.",
        "Have her enroll.",
        {"application account": "In sync", "LMS account": "active"},
    ),
    Case(
        "zeno",
        "My progress page here is empty.",
        "His tokens were revoked in the LMS. In the application the token has not expired, so "
        "it looks valid.",
        "Compare with the LMS now shows that the LMS refuses the token. Repair now obtains a "
        "new one.",
        {"application token": "valid", "LMS tokens": 0},
    ),
    Case(
        "adele",
        "Sometimes my progress shows, sometimes not.",
        "The LMS's clock was wrong when her token was issued, so the token's expiry date is a "
        "year ago.",
        "Compare with the LMS now shows the date. The token is renewed when it is needed, or "
        "with Repair now.",
        {"application token": "ended"},
    ),
    Case(
        "bruno",
        "My progress page shows an error.",
        "His token was encrypted with a key that is no longer configured.",
        "Compare with the LMS now shows that no key decrypts it. Add the old key after the new "
        "one in USHER_ENCRYPTION_KEYS. If the key is lost, Repair now obtains a new token.",
        {"application token": "unreadable"},
    ),
    Case(
        "clara",
        "I enrolled in Physics some minutes ago and it is not there.",
        "A worker was killed while it had claimed the record. The claim lasts for at most nine "
        "minutes.",
        "Wait: her page says when another worker claims the record.",
        {"application enrollment other": "Pending"},
    ),
    Case(
        "dmitri",
        "I enrolled in Physics yesterday and it is still not there.",
        "The LMS was down. After fourteen attempts, the next one is up to 100 minutes away.",
        "Repair now.",
        {"application enrollment other": "Retrying server-error"},
    ),
    Case(
        "elif",
        "I changed my e-mail address, and the course still writes to the old one.",
        "Another LMS account has the new address, so the LMS refuses the change.",
        "Find out whose account elif_1 is. If it is hers too, give it another address in the "
        "LMS, then Repair now.",
        {"application profile": "Refused duplicate-email"},
        "elif.new@learners.example",
    ),
    Case(
        "gita",
        "History of Railways says that it has ended. My friend is still in it.",
        "The application has the run's dates of last year. In the LMS the run is open.",
        "Compare with the LMS now shows the other end date. Synchronise now on the run's page "
        "copies it; so does the next hourly synchronisation.",
        {"application enrollment moved": "In sync"},
    ),
)
