"""The applications people have: MITx Online and MIT xPro, and how they differ."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Edition:
    """name: as on the command line; title: for people; host and port: the browser address;
    sync_command: the management command that syncs course runs, with its arguments."""

    name: str
    title: str
    host: str
    port: int
    sync_command: tuple[str, ...]
    repair_command: tuple[str, ...] = ("repair_missing_courseware_records",)

    @property
    def root_url(self) -> str:
        return f"http://{self.host}:{self.port}"


MITXONLINE = Edition(
    name="mitxonline",
    title="MITx Online",
    host="mitxonline.odl.local",
    port=8013,
    sync_command=("sync_courserun", "--all", "ALL"),
)
MITXPRO = Edition(
    name="mitxpro",
    title="MIT xPro",
    host="xpro.odl.local",
    port=8053,
    sync_command=("sync_courseruns",),
)
EDITIONS = {edition.name: edition for edition in (MITXONLINE, MITXPRO)}
