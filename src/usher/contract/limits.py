"""Limits of Open edX, from its source code and its recorded answers, and of the batch API."""

#: Characters.
USERNAME_MIN_LENGTH = 2
USERNAME_MAX_LENGTH = 30
USERNAME_PATTERN = r"[A-Za-z0-9_-]+"
FULL_NAME_MAX_LENGTH = 255
#: The most course runs that the LMS returns in one page.
COURSE_LIST_PAGE_SIZE = 100
#: The most items in one request of the batch API.
BATCH_ITEMS_A_REQUEST = 500
