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

    seen: what the application (``here account`` → value …) and the LMS (``there account`` …) have
    once the thing is broken. address: the learner's e-mail address, if it isn't made of the
    username.
    """

    learner: str
    says: str
    cause: str
    repair: str
    seen: Mapping[str, Any] = field(default_factory=dict)
    address: str = ""

    @property
    def email(self) -> str:
        return self.address or f"{self.learner}@learners.example"

    def expect(self, seen: Mapping[str, Any]) -> None:
        """Raises DemoError if ``seen`` lacks what makes the case."""
        for name, value in self.seen.items():
            if seen.get(name) != value:
                raise DemoError(
                    f"{self.learner} should have {value!r} as {name!r} and has "
                    f"{seen.get(name)!r}; all that was seen: {dict(seen)}"
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
        "Enrollment in that run ended nine days ago in the LMS, which refuses her.",
        "Give the run a later end of enrollment in the LMS, then Repair now; or tell her that it "
        "is over.",
        {"here enrollment closed": "Refused enrollment-closed"},
    ),
    Case(
        "boris",
        "Economics of Small Towns doesn't show up in my courses.",
        "Enrollment in that run begins in thirty days, says the LMS.",
        "Repair now once it has begun, or after the run got an earlier start of enrollment in "
        "the LMS.",
        {"here enrollment upcoming": "Refused enrollment-closed"},
    ),
    Case(
        "chen",
        "I signed up for the pottery class on its first day, and I am not in it.",
        "The run takes one learner, and has one.",
        "Raise the limit in the LMS, then Repair now.",
        {"here enrollment full": "Refused course-full"},
    ),
    Case(
        "dalia",
        "Everybody from my class is in Biology but me.",
        "An import enrolled her in the mode honor, which the run does not have.",
        "Change the mode to audit in the admin; saving it sends it.",
        {"here enrollment main": "Refused mode-unavailable"},
    ),
    Case(
        "emil",
        "I bought the certificate for Statistics and the course is missing.",
        "The upgrade deadline of the verified mode has passed in the LMS.",
        "Move the deadline in the LMS, then Repair now; or change the mode to audit in the admin "
        "and refund.",
        {"here enrollment upgrade": "Refused mode-unavailable"},
    ),
    Case(
        "fatima",
        "My course says that it is not available.",
        "Her enrollment is in a run whose key is mistyped (Biolgy): the LMS has no such run.",
        "Enroll her in the right run and delete the other.",
        {"here enrollment course-v1:Trouble+Biolgy+2026": "Refused unknown-run"},
    ),
    Case(
        "hana",
        "Geology was in my dashboard last week.",
        "The run was deleted from the LMS, as her page says at its top; her enrollment was fine "
        "before.",
        "Restore the run in the LMS; it is seen again within the hour, or with Synchronise now on "
        "the run's page.",
        {"here enrollment gone": "In sync", "here missing": ["course-v1:Trouble+Geology+2026"]},
    ),
    Case(
        "jana",
        "I can't get into any course.",
        "She had registered at the LMS itself before, with the same e-mail address: no "
        "account is created or linked automatically.",
        "Have her prove that the account jana is hers. Compare with the LMS offers it: link it, "
        "then give staff of the LMS the usher_link command that the page shows then.",
        {
            "here account": "Refused duplicate-email",
            "here enrollment main": "Pending no-account",
            "there account": "none",
        },
    ),
    Case(
        "kofi",
        "In the forum I have a number behind my name.",
        "Somebody else took the username kofi in the LMS before.",
        "Nothing is broken: the LMS's usernames are unique, and never change.",
        {"here account": "In sync", "there account": "active"},
    ),
    Case(
        "lena",
        "I signed up yesterday and can't start.",
        "Her e-mail address is not confirmed, so that no LMS account is created.",
        "Have her sign in here: the confirmation is sent again. Her account is created within ten "
        "minutes after it, or by Repair now.",
        {"here account": "Pending unconfirmed", "there account": "none"},
    ),
    Case(
        "marek",
        "The course site says that my account is disabled.",
        "Staff of the LMS deactivated the account.",
        "Ask them why. Then activate it there, or by the action Activate in the LMS in the admin "
        "here.",
        {"here account": "Deactivated in the LMS", "there account": "inactive"},
    ),
    Case(
        "nadia",
        "I can't sign in anywhere.",
        "Her user was deactivated in the application, and the LMS account with it.",
        "Activate the user in the admin here when that was a mistake; the LMS account follows.",
        {"here account": "In sync", "there account": "inactive", "here active in the LMS": False},
    ),
    Case(
        "omar",
        "My course and all my answers are gone.",
        "His account was deleted in the LMS's database; nobody told the application.",
        "Compare with the LMS shows that it has no such account. Repair now makes account and "
        "enrollment again; his answers come from the LMS's backup only.",
        {"here account": "In sync", "there account": "none"},
    ),
    Case(
        "petra",
        "I see nothing of my courses since I married.",
        "Staff of the LMS changed her username there; usernames must never change.",
        "Compare with the LMS says so. Change it back to petra in the LMS's admin.",
        {"here account": "In sync", "there account": "none", "there linked to": "petra_married"},
    ),
    Case(
        "quentin",
        "The course site does not let me in: it says that an account exists.",
        "The link between his LMS account and the application was deleted in the LMS.",
        "Compare with the LMS says so, and shows the usher_link command for staff of the LMS. Then "
        "Repair now renews his token.",
        {"here account": "In sync", "there account": "active", "there linked to": ""},
    ),
    Case(
        "rosa",
        "After signing in I see somebody else's courses.",
        "Her sign-in is linked to the LMS account rosa_b, which is another Rosa Bianchi's.",
        "Urgent. Compare with the LMS says so, and shows the usher_link --move command for staff "
        "of the LMS. Then Repair now renews her token.",
        {"here account": "In sync", "there linked to": "rosa_b"},
    ),
    Case(
        "samir",
        "I deleted my old account and now I can't get a new one.",
        "His e-mail address belongs to a retired LMS account; the LMS keeps retired addresses "
        "for ever.",
        "He needs another e-mail address; then Repair now.",
        {"here account": "Refused duplicate-email", "there account": "none"},
    ),
    Case(
        "tomas",
        "I was thrown out of Biology.",
        "Somebody unenrolled him in the LMS; here he is enrolled.",
        "Compare with the LMS shows it. Repair now, when he should be in it.",
        {"here enrollment main": "In sync", "there enrollment main": "left"},
    ),
    Case(
        "uma",
        "I paid for a certificate and the exam is locked.",
        "The LMS has her in the mode audit, the application in verified.",
        "Compare with the LMS, then repair.",
        {"here enrollment main": "In sync", "there enrollment main": "audit"},
    ),
    Case(
        "viktor",
        "Why do I get mail from Physics? I never wanted it.",
        "Somebody enrolled him in Physics in the LMS. The application has recorded it since, as "
        "What happened on his page says.",
        "Ask who enrolled him. Then unenroll him by the action Unenroll in the LMS in the admin "
        "here, or in the LMS.",
        {"there enrollment other": "audit"},
    ),
    Case(
        "wanda",
        "I left Biology and it is still there.",
        "She left here; the LMS has her in it again.",
        "Compare with the LMS, then repair.",
        {"here enrollment main": "In sync", "there enrollment main": "audit"},
    ),
    Case(
        "xavier",
        "My colleague says that I am enrolled, and I see nothing.",
        "He has two users: xavier@work.example is enrolled, this one is not.",
        "Tell him which address to sign in with.",
        {"here account": "none"},
    ),
    Case(
        "yara",
        "I did everything and am in no course.",
        "She never enrolled: her account is fine, and no enrollment was requested.",
        "Have her enroll.",
        {"here account": "In sync", "there account": "active"},
    ),
    Case(
        "zeno",
        "My progress page here is empty.",
        "His tokens were revoked in the LMS; the application believes that its own is valid.",
        "Compare with the LMS says that it refuses the token. Repair now obtains a new one.",
        {"here token": "valid", "there tokens": 0},
    ),
    Case(
        "adele",
        "Sometimes my progress shows, sometimes not.",
        "The LMS's clock was wrong when her token was made: by its date it ended a year ago.",
        "Compare with the LMS says so. It is renewed when it is needed, and by Repair now at once.",
        {"here token": "ended"},
    ),
    Case(
        "bruno",
        "My progress page shows an error.",
        "His token was encrypted with a key that is no longer configured.",
        "Compare with the LMS says that no key decrypts it. Put the old key back behind the new "
        "one in USHER_ENCRYPTION_KEYS; if it is lost, Repair now obtains a new token.",
        {"here token": "unreadable"},
    ),
    Case(
        "clara",
        "I enrolled in Physics some minutes ago and it is not there.",
        "A worker that was killed still has the record, for at most nine minutes after it was "
        "broken.",
        "Wait: her page says when another worker takes it.",
        {"here enrollment other": "Pending"},
    ),
    Case(
        "dmitri",
        "I enrolled in Physics yesterday and it is still not there.",
        "The LMS was down; after fourteen attempts the next one is up to 100 minutes away.",
        "Repair now.",
        {"here enrollment other": "Retrying server-error"},
    ),
    Case(
        "elif",
        "I changed my e-mail address, and the course still writes to the old one.",
        "Another LMS account has the new address; the LMS refuses the change.",
        "Find out whose account elif_1 is. When it is hers, give it another address in the LMS, "
        "then Repair now.",
        {"here profile": "Refused duplicate-email"},
        "elif.new@learners.example",
    ),
    Case(
        "gita",
        "History of Railways says that it has ended. My friend is still in it.",
        "The dates of the run here are of last year; the LMS has it open.",
        "Compare with the LMS shows the other end. Synchronise now on the run's page, or the "
        "next hourly synchronisation.",
        {"here enrollment moved": "In sync"},
    ),
)
