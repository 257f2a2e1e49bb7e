"""``/api/user/v1/``: the signed-in user, and accounts."""

from collections.abc import Sequence
from typing import Any

from django.contrib.auth.models import User
from django.db import transaction
from rest_framework.exceptions import UnsupportedMediaType
from rest_framework.parsers import JSONParser
from rest_framework.permissions import BasePermission, IsAuthenticated
from rest_framework.response import Response
from rest_framework.viewsets import ViewSet

from usher.embedded.core.authentication import API_AUTHENTICATION
from usher.embedded.core.parsers import MergePatchParser
from usher.embedded.user_api import services


class MayFindPeople(BasePermission):
    """Only staff may search users by e-mail address or id."""

    def has_permission(self, request: Any, view: Any) -> bool:
        searched_by = {"lms_user_id", "email"} & set(request.GET)
        return not searched_by or request.user.is_staff or request.user.is_superuser


class AccountViewSet(ViewSet):
    authentication_classes = API_AUTHENTICATION
    permission_classes = (IsAuthenticated, MayFindPeople)
    parser_classes = (JSONParser, MergePatchParser)

    def get(self, request: Any) -> Response:
        return Response({"username": request.user.username})

    def list(self, request: Any) -> Response:
        usernames = request.GET.get("username")
        email, user_id = request.GET.get("email"), request.GET.get("lms_user_id")
        names: Sequence[str] = ()
        if usernames:
            names = usernames.strip(",").split(",")
        elif email or user_id:
            if not email and not user_id.isdecimal():
                return Response(status=400)
            user = User.objects.filter(
                **({"email__iexact": email} if email else {"pk": user_id})
            ).first()
            if user is None:
                return Response(status=404)
            names = [user.username]
        return self._accounts_response(request, names, as_list=True)

    def retrieve(self, request: Any, username: str) -> Response:
        return self._accounts_response(request, [username], as_list=False)

    def _accounts_response(
        self, request: Any, usernames: Sequence[str], *, as_list: bool
    ) -> Response:
        try:
            view = request.query_params.get("view")
            accounts = services.read_accounts(request, list(usernames), view=view)
        except services.UserNotFound:
            return Response(status=404)
        return Response(accounts if as_list else accounts[0])

    def search_emails(self, request: Any) -> Response:
        if not request.user.is_staff:
            return Response(
                {"developer_message": "not_found", "user_message": "Not Found"}, status=404
            )
        if "emails" not in request.data:
            message = "'emails' field is required"
            return Response({"developer_message": message, "user_message": message}, status=400)
        users = User.objects.filter(email__in=request.data["emails"]).order_by("id")
        return Response(
            [{"email": user.email, "id": user.pk, "username": user.username} for user in users]
        )

    def partial_update(self, request: Any, username: str) -> Response:
        if request.content_type != MergePatchParser.media_type:
            raise UnsupportedMediaType(request.content_type)
        try:
            with transaction.atomic():
                services.update_account(request.user, dict(request.data), username)
                return Response(services.read_accounts(request, [username])[0])
        except services.UserNotAuthorized:
            return Response(status=403)
        except services.UserNotFound:
            return Response(status=404)
        except services.AccountValidationError as error:
            return Response({"field_errors": error.field_errors}, status=400)
        except services.AccountUpdateError as error:
            return Response(
                {
                    "developer_message": error.developer_message,
                    "user_message": error.user_message,
                },
                status=400,
            )
