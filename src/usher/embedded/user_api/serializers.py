"""Accounts in the account API, and the fields that users may change."""

import re
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.core.exceptions import ObjectDoesNotExist
from rest_framework import serializers

from usher.embedded.student.models import (
    LanguageProficiency,
    PendingNameChange,
    SocialLink,
    UserProfile,
)
from usher.embedded.user_api.images import profile_image_urls
from usher.embedded.user_api.models import ACCOUNT_VISIBILITY_KEY, UserPreference

BIO_MAX_LENGTH = 300


def _none_if_empty(value: Any) -> Any:
    return None if value == "" else value


def visibility(user: User, profile: UserProfile | None) -> str:
    """``private``, ``all_users`` or ``custom``; private for users who may be children, such as
    those without a year of birth."""
    if profile is not None and profile.requires_parental_consent():
        return "private"
    preferred = UserPreference.get_value(user, ACCOUNT_VISIBILITY_KEY)
    return preferred or settings.ACCOUNT_VISIBILITY_CONFIGURATION["default_visibility"]


def visible_fields(user: User, profile: UserProfile | None) -> list[str]:
    """The fields of this account that everybody may see."""
    configuration = settings.ACCOUNT_VISIBILITY_CONFIGURATION
    account_visibility = visibility(user, profile)
    if profile is not None and account_visibility == "all_users":
        return list(configuration["bulk_shareable_fields"])
    if profile is not None and account_visibility == "custom":
        shared_keys = UserPreference.objects.filter(
            user=user, key__startswith="visibility.", value="all_users"
        ).values_list("key", flat=True)
        shared_names = {key.removeprefix("visibility.") for key in shared_keys}
        shareable = configuration["custom_shareable_fields"]
        return [
            name
            for name in shareable
            if name in shared_names or name in configuration["public_fields"]
        ]
    return list(configuration["public_fields"])


def _profile_data(profile: UserProfile, user: User, request: Any) -> dict[str, Any]:
    images = {f"image_url_{name}": url for name, url in profile_image_urls(user, request).items()}
    languages = profile.language_proficiencies.order_by("code")
    country: Any = profile.country  # a Country, although the field's type says text
    links = profile.social_links.order_by("platform")
    return {
        "bio": _none_if_empty(profile.bio),
        "country": _none_if_empty(country.code if country else None),
        "state": _none_if_empty(profile.state),
        "profile_image": {"has_image": profile.has_profile_image, **images},
        "language_proficiencies": [{"code": language.code} for language in languages],
        "name": profile.name,
        "gender": _none_if_empty(profile.gender),
        "goals": profile.goals,
        "year_of_birth": profile.year_of_birth,
        "level_of_education": _none_if_empty(profile.level_of_education),
        "mailing_address": profile.mailing_address,
        "requires_parental_consent": profile.requires_parental_consent(),
        "social_links": [
            {"platform": link.platform, "social_link": link.social_link} for link in links
        ],
        "extended_profile": [],
        "phone_number": profile.phone_number,
    }


def account_data(user: User, fields: list[str] | None, request: Any) -> dict[str, Any]:
    """Field → value, for the account's fields named in ``fields``. fields: None for the fields that
    everybody may see."""
    try:
        profile = user.profile
    except ObjectDoesNotExist:
        profile = None
    try:
        activation_key = user.registration.activation_key
    except ObjectDoesNotExist:
        activation_key = None
    pending = PendingNameChange.objects.filter(user=user).first()
    data = {
        "username": user.username,
        "email": user.email,
        "id": user.pk,
        "date_joined": user.date_joined.replace(microsecond=0),
        "last_login": user.last_login,
        "is_active": user.is_active,
        "activation_key": activation_key,
        "account_privacy": visibility(user, profile),
        "pending_name_change": pending.new_name if pending else None,
    }
    if profile is not None:
        data |= _profile_data(profile, user, request)
    return {name: data.get(name) for name in fields or visible_fields(user, profile)}


class LanguageSerializer(serializers.ModelSerializer[LanguageProficiency]):
    class Meta:
        model = LanguageProficiency
        fields = ("code",)


class SocialLinkSerializer(serializers.ModelSerializer[SocialLink]):
    class Meta:
        model = SocialLink
        fields = ("platform", "social_link")

    def validate_platform(self, platform: str) -> str:
        if platform not in {"facebook", "twitter", "linkedin"}:
            raise serializers.ValidationError(
                "The social platform must be facebook, twitter or linkedin"
            )
        return platform


class PhoneNumberField(serializers.CharField):
    def to_internal_value(self, data: Any) -> Any:
        # Only the digits, and a plus sign at the beginning.
        return re.sub(r"(?!^)\+|[^0-9+]", "", str(data)) or None


class ProfileSerializer(serializers.ModelSerializer[UserProfile]):
    """Fields of the profile that its owner may change."""

    language_proficiencies = LanguageSerializer(many=True, required=False)
    social_links = SocialLinkSerializer(many=True, required=False)
    phone_number = PhoneNumberField(required=False)

    class Meta:
        model = UserProfile
        fields = (
            "name",
            "gender",
            "goals",
            "year_of_birth",
            "level_of_education",
            "country",
            "state",
            "social_links",
            "mailing_address",
            "bio",
            "language_proficiencies",
            "phone_number",
            "city",
        )

    def validate_bio(self, bio: str) -> str:
        if bio and len(bio) > BIO_MAX_LENGTH:
            raise serializers.ValidationError(
                f"The about me field must be at most {BIO_MAX_LENGTH} characters long."
            )
        return bio

    def validate_name(self, name: str) -> str:
        if not name:
            raise serializers.ValidationError("The name field must be at least 1 character long.")
        return name

    def validate_language_proficiencies(self, value: list[dict[str, str]]) -> Any:
        if len({language["code"] for language in value}) != len(value):
            raise serializers.ValidationError(
                "The language_proficiencies field must consist of unique languages."
            )
        return value

    def update(self, profile: UserProfile, data: dict[str, Any]) -> UserProfile:
        languages = data.pop("language_proficiencies", None)
        links = data.pop("social_links", None)
        for name, value in data.items():
            setattr(profile, name, value)
        profile.save()
        if languages is not None:
            profile.language_proficiencies.all().delete()
            for language in languages:
                profile.language_proficiencies.create(code=language["code"])
        for link in links or []:
            profile.social_links.filter(platform=link["platform"]).delete()
            if link["social_link"]:  # an empty address only deletes
                profile.social_links.create(**link)
        return profile
