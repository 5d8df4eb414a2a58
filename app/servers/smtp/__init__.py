"""SMTP with three faces: submission for our users, MX for mail from elsewhere, LMTP for a mail server in front."""

from app.servers.smtp.conversation import SmtpConversation
from app.servers.smtp.site import Face, SmtpSite

__all__ = ["Face", "SmtpConversation", "SmtpSite"]
