"""Messages of registration, word for word the platform's."""

from usher.contract.limits import USERNAME_MAX_LENGTH, USERNAME_MIN_LENGTH

USERNAME_CHARACTERS = (
    "Usernames can only contain letters (A-Z, a-z), numerals (0-9), underscores (_), "
    "and hyphens (-)."
)
USERNAME_LENGTH = (
    f"Username must be between {USERNAME_MIN_LENGTH} and {USERNAME_MAX_LENGTH} characters long."
)
USERNAME_TAKEN = "It looks like this username is already taken"
EMAIL_TAKEN = "This email is already associated with an existing account"
EMAIL_FORMAT = "A properly formatted e-mail is required"
EMAIL_INVALID = "Enter a valid email address"
EMAIL_SHORT = "Enter a valid email address that contains at least 3 characters."
NAME_SHORT = "Your legal name must be a minimum of one character long"
NAME_LONG = "Your legal name is too long. It must not exceed 255 characters"
NAME_HTML = "Full Name cannot contain the following characters: < >"
NAME_INVALID = "Enter a valid name"
NAME_REQUIRED = "Enter your full name"
COUNTRY_REQUIRED = "Select your country or region of residence"
TERMS_REQUIRED = "You must accept the terms of service."
HONOR_CODE_REQUIRED = "To enroll, you must follow the honor code."
EMAILS_DIFFER = "The email addresses do not match"
FIELD_REQUIRED = {
    "level_of_education": "A level of education is required",
    "gender": "Your gender is required",
    "year_of_birth": "Your year of birth is required",
    "mailing_address": "Your mailing address is required",
    "goals": "A description of your goals is required",
    "city": "A city is required",
    "country": "A country is required",
}
FIELD_MISSING = "You are missing one or more required fields"
