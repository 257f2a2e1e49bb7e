"""``/api/courses/v1/courses/``: the list of course runs, and one run."""

from typing import Any

from django.core.exceptions import ValidationError
from edx_rest_framework_extensions.paginators import NamespacedPageNumberPagination
from rest_framework.generics import ListAPIView, RetrieveAPIView

from usher.contract.limits import COURSE_LIST_PAGE_SIZE
from usher.embedded.core.authentication import API_AUTHENTICATION
from usher.embedded.core.errors import DeveloperErrorMixin
from usher.embedded.core.limits import StaffAwareThrottle
from usher.embedded.course_api import services
from usher.embedded.course_api.forms import CourseListForm, course_key
from usher.embedded.course_api.serializers import CourseDetailSerializer, CourseSerializer


class CourseListThrottle(StaffAwareThrottle):
    family = "course_list"


class CourseListPagination(NamespacedPageNumberPagination):
    max_page_size = COURSE_LIST_PAGE_SIZE


class CourseListView(DeveloperErrorMixin, ListAPIView[Any]):
    """The runs that a user, by default an anonymous visitor, may see."""

    authentication_classes = API_AUTHENTICATION
    permission_classes = ()
    throttle_classes = (CourseListThrottle,)
    pagination_class = CourseListPagination
    serializer_class = CourseSerializer

    def get_queryset(self) -> Any:
        form = CourseListForm(self.request.query_params)
        if not form.is_valid():
            raise ValidationError(form.errors.as_data())
        form_data = form.cleaned_data
        return services.visible_runs(
            self.request.user,
            form_data["username"],
            org=form_data["org"],
            mobile=form_data["mobile"],
            active_only=form_data["active_only"],
            course_keys=form_data["course_keys"],
        )


class CourseDetailView(DeveloperErrorMixin, RetrieveAPIView[Any]):
    """One run, if this user may see it."""

    authentication_classes = API_AUTHENTICATION
    permission_classes = ()
    serializer_class = CourseDetailSerializer

    def get_object(self) -> Any:
        try:
            key = course_key(self.kwargs["course_key_string"])
        except ValidationError as error:
            raise ValidationError({"course_key": error.messages}) from error
        username = self.request.query_params.get("username", "")
        return services.visible_run(self.request.user, username, key)
