"""All other settings of opendkim.conf(5), by what becomes of them."""

from __future__ import annotations

from dkimpipe.admin.migration.foreign import CHANGED, LOST, SAME, Foreign
from dkimpipe.admin.opendkim.conf import Conf

# Read elsewhere: each has its own remarks.
_READ = """
    Domain Selector KeyFile KeyTable SigningTable MultipleSignatures SubDomains Canonicalization
    SignatureAlgorithm SignHeaders OmitHeaders OversignHeaders SenderHeaders SignatureTTL InternalHosts
    PeerList Mode BaseDirectory ExemptDomains MTA MacroList
"""
_NO_DAEMON = """
    AutoRestart AutoRestartCount AutoRestartRate Background ChangeRootDirectory EnableCoredumps
    DisableCryptoInit MilterDebug PidFile UMask Socket SoftStart TemporaryDirectory KeepTemporaryFiles
"""
_VERIFIER = """
    AllowSHA1Only AlwaysAddARHeader AuthservID AuthservIDWithJobID BogusKey ClockDrift DNSConnect DNSTimeout
    DiagnosticDirectory DomainKeysCompat IgnoreMalformedMail KeepAuthResults LogResults
    MaximumSignaturesToVerify Minimum MTACommand MustBeSigned Nameservers NoHeaderB
    On-BadSignature On-DNSError On-Default On-InternalError On-KeyNotFound On-NoSignature On-Security
    Quarantine QueryCache RedirectFailuresTo RemoveARAll RemoveARFrom ReportAddress ReportBccAddress
    ResolverConfiguration ResolverTracing ScreenPolicyScript SendReports SMTPURI Statistics StatisticsName
    StatisticsPolicyScript StatisticsPrefix StrictTestMode TestDNSData TestPublicKeys TrustAnchorFile
    TrustSignaturesFrom UnprotectedKey VBR-TrustedCertifiers VBR-TrustedCertifiersOnly WeakSyntaxChecks
"""
_LDAP = """
    LDAPAuthMechanism LDAPAuthName LDAPAuthRealm LDAPAuthUser LDAPBindPassword LDAPBindUser LDAPDisableCache
    LDAPKeepaliveIdle LDAPKeepaliveInterval LDAPKeepaliveProbes LDAPTimeout LDAPUseTLS
"""
_LOGIN = "login= in an entry limits who may use a signature"
_EFFECTS = {
    **dict.fromkeys(_NO_DAEMON.split(), (SAME, "there is no daemon")),
    **dict.fromkeys(_VERIFIER.split(), (SAME, "for mail from outside: see dkimpipe-verify(1)")),
    **dict.fromkeys(_LDAP.split(), (SAME, "LDAP is not used")),
    "CaptureUnknownErrors": (SAME, "after an error mail is deferred"),
    "ExternalIgnoreList": (SAME, "it only suppresses messages in the log"),
    "FixCRLF": (SAME, "Postfix has already replaced such line ends"),
    "MinimumKeyBits": (CHANGED, "mail with a smaller key is rejected today; here it is signed"),
    "LogWhy": (SAME, "dkimpipe explain shows why"),
    "MaximumHeaders": (SAME, "Postfix has header_size_limit"),
    "On-SignatureError": (SAME, "after an error mail is deferred; on_error accept would pass it on unsigned"),
    "RequireSafeKeys": (SAME, "keys are copied with permissions that the filter accepts"),
    "SoftwareHeader": (SAME, "no field beside the signature is added"),
    "X-Header": (SAME, "no field beside the signature is added"),
    "Syslog": (SAME, "each message has its line in the log of Postfix"),
    "SyslogFacility": (SAME, "the facility is mail"),
    "SyslogName": (SAME, "the log has the name dkimpipe"),
    "SyslogSuccess": (SAME, "each message has its line in the log of Postfix"),
    "UserID": (SAME, "the filter runs as user dkimpipe"),
    "VBR-PurgeFields": (SAME, "VBR-Info fields are left alone"),
    "ATPSDomains": (CHANGED, "signatures no longer have atps="),
    "ATPSHashAlgorithm": (CHANGED, "signatures no longer have atps="),
    "Diagnostics": (CHANGED, "signatures no longer have z=, a copy of the header fields"),
    "RemoveOldSignatures": (CHANGED, "earlier signatures stay; they do no harm"),
    "RequestReports": (CHANGED, "signatures no longer have r=y"),
    "RequiredHeaders": (CHANGED, "mail with missing or duplicate fields is no longer rejected for that"),
    "StrictHeaders": (CHANGED, "mail with missing or duplicate fields is signed; with two From fields, not"),
    "VBR-Certifiers": (CHANGED, "VBR-Info fields are no longer added"),
    "VBR-Type": (CHANGED, "VBR-Info fields are no longer added"),
    "BodyLengthDB": (
        LOST,
        "l= would let anybody append text to signed mail (RFC 6376 section 8.2); sign all",
    ),
    "BodyLengths": (LOST, "l= would let anybody append text to signed mail (RFC 6376 section 8.2); sign all"),
    "MaximumSignedBytes": (
        LOST,
        "l= would let anybody append text to signed mail (RFC 6376 section 8.2); sign all",
    ),
    "DontSignMailTo": (LOST, "recipients do not choose the signature; their mail is signed, too"),
    "FinalPolicyScript": (LOST, "Lua scripts are not run"),
    "IdentityHeader": (LOST, "i= is not taken from a field; i=$sender is the address that chose the entry"),
    "IdentityHeaderRemove": (LOST, "no field is removed; header_checks of Postfix can remove it"),
    "LuaOnlySigning": (LOST, "Lua scripts are not run"),
    "POPDBFile": (LOST, "there is no POP before SMTP; let users log in"),
    "ReplaceHeaders": (LOST, "what is signed is what leaves; let Postfix rewrite before the filter"),
    "ReplaceRules": (LOST, "what is signed is what leaves; let Postfix rewrite before the filter"),
    "ResignAll": (LOST, "recipients do not choose the signature; a listid_map signs mailing lists"),
    "ResignMailTo": (LOST, "recipients do not choose the signature; a listid_map signs mailing lists"),
    "SelectCanonicalizationHeader": (LOST, "no field chooses c=; set it in an entry"),
    "SenderMacro": (LOST, f"macros of the milter protocol do not exist here; {_LOGIN}"),
    "DefaultSender": (LOST, "mail without a usable From field is not signed"),
    "SetupPolicyScript": (LOST, f"Lua scripts are not run; {_LOGIN}"),
}
_BY_NAME = {name.lower(): effect for name, effect in _EFFECTS.items()}
_ELSEWHERE = frozenset(_READ.lower().split())
_FALSE_IS_NOTHING = (CHANGED, LOST)


def remark(conf: Conf, foreign: Foreign) -> None:
    """Add a remark for each setting that is not read elsewhere, or without effect."""
    for earlier, later in conf.replaced:
        foreign.remark(earlier.place, SAME, f"{earlier.name}: {later.place} replaces it")
    for name, setting in conf.settings.items():
        if name in _ELSEWHERE:
            continue
        effect, why = _BY_NAME.get(name, (LOST, "OpenDKIM 2.11 does not know it, either, and does not start"))
        if effect in _FALSE_IS_NOTHING and setting.value[:1] in "fFnN0" and len(setting.value) < 6:
            effect, why = SAME, "it is off"
        foreign.remark(setting.place, effect, f"{setting.name}: {why}")
