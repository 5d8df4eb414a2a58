"""The SMTP server with three roles: submission for its users, MX for other servers, LMTP behind another server."""

from app.servers.smtp.conversation import SmtpConversation
from app.servers.smtp.site import ListenerRole, SmtpSite

__all__ = ["ListenerRole", "SmtpConversation", "SmtpSite"]
