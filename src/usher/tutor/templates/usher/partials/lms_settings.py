{% if usher_lms_settings() -%}
# Usher: single sign-on through {{ usher_lms_settings()["USHER_BACKENDS"] | join(", ") }}
import importlib.util
import sys

# Without the package (an image that was not built anew) the LMS goes on, plain.
if importlib.util.find_spec("usher"):
    from usher.lms.settings.apply import apply as apply_usher

    # Once more, now that everything else is set: Tutor and other plugins have had their turn.
    apply_usher(sys.modules[__name__])
    {% if not USHER_AUTHN_MICROFRONTEND -%}
    FEATURES["ENABLE_AUTHN_MICROFRONTEND"] = False
    {% endif -%}
    # The secrets stay in one file, readable by its owner alone. The provider records have them
    # too, so an unreadable file is no reason for the LMS not to start.
    try:
        with open(os.path.join(os.path.dirname(os.environ["LMS_CFG"]), "usher.json")) as usher_file:
            SOCIAL_AUTH_OAUTH_SECRETS = {
                **SOCIAL_AUTH_OAUTH_SECRETS,
                **{
                    application["backend"]: application["client_secret"]
                    for application in json.load(usher_file)["applications"]
                },
            }
    except OSError as error:
        print(f"Usher: SOCIAL_AUTH_OAUTH_SECRETS is not set: {error}", file=sys.stderr)
{%- endif %}
