"""Sign-out from both the application and the LMS, also in browsers that send no cookies in frames.

The application notifies each LMS with a logout token (OpenID Connect Back-Channel Logout 1.0). The
LMS notifies the application with a message that is signed as its webhooks are.
"""
