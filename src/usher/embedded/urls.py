"""Addresses of the LMS, as the platform has them."""

from django.conf import settings
from django.contrib import admin
from django.urls import include, path, re_path

from usher.embedded.bulk_email.views import ChangeEmailSettingsView
from usher.embedded.bulk_enroll.views import BulkEnrollView
from usher.embedded.certificates.views import CertificatesListView, CertificateView
from usher.embedded.conf.plugins import url_patterns
from usher.embedded.course_api.views import CourseDetailView, CourseListView
from usher.embedded.course_modes.views import CourseModesView, CourseModeView
from usher.embedded.course_outline.views import CourseOutlineView
from usher.embedded.enrollments import views as enrollments
from usher.embedded.grades.views import CourseGradesView
from usher.embedded.lti_provider.views import LtiUserFixView
from usher.embedded.mobile_api.views import MyUserInfoView, UserDetailView
from usher.embedded.pages import views as pages
from usher.embedded.studio.views import router as studio
from usher.embedded.third_party_auth.views import inactive_user_view
from usher.embedded.user_api.retirement import BulkUsersRetirementView

_COURSE_ID = settings.COURSE_ID_PATTERN
_USERNAME = settings.USERNAME_PATTERN

_enrollment = [
    re_path(rf"^enrollment/{_USERNAME},{_COURSE_ID}$", enrollments.EnrollmentView.as_view()),
    re_path(rf"^enrollment/{_COURSE_ID}$", enrollments.EnrollmentView.as_view()),
    path("enrollment", enrollments.EnrollmentListView.as_view()),
    re_path(r"^enrollments/?$", enrollments.EnrollmentsView.as_view()),
    re_path(rf"^course/{_COURSE_ID}$", enrollments.EnrollmentCourseDetailView.as_view()),
    path("roles/", enrollments.UserRolesView.as_view()),
]

_modes = [
    re_path(rf"^courses/{_COURSE_ID}/$", CourseModesView.as_view()),
    re_path(rf"^courses/{_COURSE_ID}/(?P<mode_slug>.*)$", CourseModeView.as_view()),
]

_grades = [
    path("courses/", CourseGradesView.as_view()),
    re_path(rf"^courses/{_COURSE_ID}/$", CourseGradesView.as_view()),
]

_certificates = [
    re_path(rf"^certificates/{_USERNAME}/courses/{_COURSE_ID}/$", CertificateView.as_view()),
    re_path(rf"^certificates/{_USERNAME}/$", CertificatesListView.as_view()),
]

#: A real Studio has a separate address.
_studio = [path("api/v1/", include(studio.urls))]

_enabled_by_features = [
    pattern
    for feature, pattern in (
        (
            "ENABLE_BULK_USER_RETIREMENT",
            path("v1/accounts/bulk_retire_users", BulkUsersRetirementView.as_view()),
        ),
        ("ENABLE_LTI_PROVIDER", path("api/lti-user-fix/", LtiUserFixView.as_view())),
    )
    if settings.FEATURES.get(feature)
]

urlpatterns = [
    *url_patterns(),
    path("", pages.index, name="root"),
    path("dashboard", pages.dashboard, name="dashboard"),
    path("courses", pages.courses, name="courses"),
    re_path(rf"^courses/{_COURSE_ID}/about$", pages.about, name="about_course"),
    re_path(rf"^courses/{_COURSE_ID}/course/?$", pages.run, name="course_home"),
    path("heartbeat", pages.heartbeat, name="heartbeat"),
    path("account/settings", pages.account_settings, name="account_settings"),
    path("admin/", admin.site.urls),
    path("", include("usher.embedded.user_authn.urls")),
    path("oauth2/", include("usher.embedded.oauth_dispatch.urls")),
    path("auth/inactive", inactive_user_view, name="third_party_inactive_redirect"),
    path("auth/", include("social_django.urls", namespace="social")),
    path("api/user/", include("usher.embedded.user_api.urls")),
    path("api/courses/v1/courses/", CourseListView.as_view(), name="course-list"),
    re_path(
        rf"^api/courses/v1/courses/{settings.COURSE_KEY_PATTERN}",
        CourseDetailView.as_view(),
        name="course-detail",
    ),
    path("api/course_modes/v1/", include(_modes)),
    path("api/enrollment/v1/", include(_enrollment)),
    path("api/bulk_enroll/v1/bulk_enroll", BulkEnrollView.as_view()),
    path("api/grades/v1/", include(_grades)),
    path("api/change_email_settings", ChangeEmailSettingsView.as_view()),
    re_path(r"^api/mobile/(?P<api_version>v[0-9.]+)/my_user_info$", MyUserInfoView.as_view()),
    re_path(
        rf"^api/mobile/(?P<api_version>v[0-9.]+)/users/{_USERNAME}$",
        UserDetailView.as_view(),
        name="user-detail",
    ),
    path("api/certificates/v0/", include(_certificates)),
    re_path(rf"^api/ol-course-outline/v0/{_COURSE_ID}/$", CourseOutlineView.as_view()),
    *_studio,
    *_enabled_by_features,
]

handler400 = "usher.embedded.pages.errors.bad_request"
handler403 = "usher.embedded.pages.errors.forbidden"
handler404 = "usher.embedded.pages.errors.not_found"
handler500 = "usher.embedded.pages.errors.server_error"
