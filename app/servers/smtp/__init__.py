"""SMTP with three faces: submission for our users, MX for mail from elsewhere, LMTP for a mail server in front."""

from app.servers.smtp.conversation import SmtpConversation
from app.servers.smtp.site import ListenerRole, SmtpSite

__all__ = ["ListenerRole", "SmtpConversation", "SmtpSite"]
