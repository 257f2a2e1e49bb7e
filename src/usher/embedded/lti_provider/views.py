"""``POST /api/lti-user-fix/``: MIT's plugin ``ol-openedx-lti-utilities``.

An account that was created for an LTI user may have the e-mail address that the learner's own
account needs. This endpoint frees the address and retires the LTI account.
"""

import logging
from typing import Any

from django.db import transaction
from django.http import Http404, HttpResponseBadRequest
from edx_rest_framework_extensions.permissions import JWT_RESTRICTED_APPLICATION_OR_USER_ACCESS
from rest_framework.response import Response
from rest_framework.views import APIView
from social_django.models import UserSocialAuth

from usher.embedded.core.authentication import API_AUTHENTICATION
from usher.embedded.lti_provider.models import LtiUser
from usher.embedded.user_api.retirement import RetirementStateError, request_retirement

log = logging.getLogger(__name__)
#: Domain of the new address of an LTI account whose address was freed.
PLACEHOLDER_DOMAIN = "lti_example.com"


class LtiUserFixView(APIView):
    authentication_classes = API_AUTHENTICATION
    permission_classes = (JWT_RESTRICTED_APPLICATION_OR_USER_ACCESS,)
    http_method_names = ("post",)

    def post(self, request: Any) -> Any:
        """Frees the address ``email`` and retires the LTI account that has it. Answers 200 without
        a body, 400 as text, or 404 for an address that no LTI account has."""
        email = request.data.get("email")
        if not email:
            return HttpResponseBadRequest("email is required")
        with transaction.atomic():
            lti_user = (
                LtiUser.objects.select_related("edx_user").filter(edx_user__email=email).first()
            )
            if lti_user is None:
                raise Http404
            user = lti_user.edx_user
            if lti_user.lti_user_id != user.username:
                return HttpResponseBadRequest(
                    "User with the given email does not appear to be an LTI-created user."
                )
            user.email = f"{user.email.split('@')[0]}@{PLACEHOLDER_DOMAIN}"
            user.save()
            UserSocialAuth.objects.filter(user=user).delete()
            lti_user.delete()
        try:
            request_retirement(user)
        except RetirementStateError:
            # As in the plugin: the address is free already.
            log.warning("LTI account %s was not retired", user.pk, exc_info=True)
        return Response(status=200)
