"""The applications that Usher knows by name, MITx Online and MIT xPro, and how they differ."""

from dataclasses import dataclass

from usher.contract.environment import Env

#: Starts MITx Online's API gateway, in its checkout.
START_GATEWAY = "docker compose --profile keycloak --profile apisix up -d"


@dataclass(frozen=True)
class Edition:
    """An application that Usher knows by name.

    name: as on the command line. title: as shown to people. host and port: parts of the
    application's browser address. sync_command: the management command that syncs course runs, with
    its arguments; repair_command: the command that creates missing LMS accounts and tokens.
    gateway_url: the browser address of an API gateway in front of it; '' for none.
    registration_token_key: the setting with the token that the application sends when it registers
    a learner. https_redirect_key: the setting that redirects all requests to HTTPS, on by
    default."""

    name: str
    title: str
    host: str
    port: int
    sync_command: tuple[str, ...]
    repair_command: tuple[str, ...] = ("repair_missing_courseware_records",)
    gateway_url: str = ""
    registration_token_key: str = ""
    https_redirect_key: str = ""

    @property
    def root_url(self) -> str:
        return f"http://{self.host}:{self.port}"


MITXONLINE = Edition(
    name="mitxonline",
    title="MITx Online",
    host="mitxonline.odl.local",
    port=8013,
    sync_command=("sync_courserun", "--all", "ALL"),
    gateway_url="http://mitxonline.odl.local:9080",
    registration_token_key=Env.MITX_ONLINE_REGISTRATION_ACCESS_TOKEN,
    https_redirect_key="MITX_ONLINE_SECURE_SSL_REDIRECT",
)
MITXPRO = Edition(
    name="mitxpro",
    title="MIT xPro",
    host="xpro.odl.local",
    port=8053,
    sync_command=("sync_courseruns",),
    registration_token_key=Env.MITXPRO_REGISTRATION_ACCESS_TOKEN,
    https_redirect_key="MITXPRO_SECURE_SSL_REDIRECT",
)
EDITIONS = {edition.name: edition for edition in (MITXONLINE, MITXPRO)}
