from oauth2_provider.oauth2_validators import OAuth2Validator


class UsherValidator(OAuth2Validator):
    pass
