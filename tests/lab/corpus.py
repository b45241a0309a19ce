"""Awkward messages, built from octets, the same in every run. The name of each tells its point.

MESSAGES    one usable From in example.com or below it: to be signed, and to verify then. 2 MB in all.
LARGE       the same, but a megabyte or more each: a header block at the size limit, ends of 1 MiB reads.
UNSIGNABLE  no usable From: to pass unsigned. With each the reason: empty, no-from, many-from or bad-from.
ELSEWHERE   a usable From in another domain, often with example.com as a decoy: never signed for example.com.
EITHER      a matter of taste: signed or passed unsigned, but never lost and never a crash.

A line is a header field where Postfix's is_header.c says so: a name of printable US-ASCII, blanks or none, a
colon. The header block ends before the first line that neither is a field nor continues one; where that line
is not empty, it belongs to the body. mbox lines on top (`From ` without a colon) are none of the message.
"""

FROM = b"From: Alice <alice@example.com>\n"
REST = (
    b"To: Bob <bob@example.net>\n"
    b"Subject: hello\n"
    b"Date: Thu, 01 Jan 2026 00:00:00 +0000\n"
    b"Message-ID: <1@example.com>\n"
)
HEAD = FROM + REST
TEXT = b"Dear Bob,\n\nhello.\n"


def body(octets: bytes) -> bytes:
    """A plain header block, the empty line, these octets."""
    return HEAD + b"\n" + octets


def fields(octets: bytes) -> bytes:
    """A plain message with these header fields at the end of its header block."""
    return HEAD + octets + b"\n" + TEXT


def sender(value: bytes) -> bytes:
    """A plain message with this From; the value may be folded."""
    return b"From: " + value + b"\n" + REST + b"\n" + TEXT


def crlf(message: bytes) -> bytes:
    """The same message with CRLF for LF, for messages that hold no CR."""
    return message.replace(b"\n", b"\r\n")


def base64_lines(count: int) -> bytes:
    """As many full lines of base64 as asked for."""
    return b"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIjJCUmJygpKissLS4vMDEyMzQ1Njc4\n" * count


BODY_START = len(crlf(body(b"")))


def straddle(offset: int, before: bytes, after: bytes) -> bytes:
    """A CRLF message in which `after` begins at this offset and `before` ends there."""
    fill = offset - BODY_START - len(before)
    return crlf(body(b"")) + (b"x" * 62 + b"\r\n") * (fill // 64) + b"x" * (fill % 64) + before + after


def straddle_header(offset: int, before: bytes, after: bytes) -> bytes:
    """The same, with the offset in the header block."""
    head = crlf(HEAD)
    fill = offset - len(head) - len(before)
    pad = b"X-Pad: " + b"x" * 55 + b"\r\n"
    return head + pad * (fill // 64 - 1) + b"X-Last: " + b"x" * (fill % 64 + 56) + before + after


# Line ends and the end of the message.
ENDS = {
    "lf": body(TEXT),
    "crlf": crlf(body(TEXT)),
    "mixed-line-by-line": b"".join(
        line + (b"\r\n", b"\n")[number % 2] for number, line in enumerate(body(TEXT).split(b"\n")[:-1])
    ),
    "mixed-crlf-header-lf-body": crlf(HEAD) + b"\r\n" + TEXT,
    "mixed-lf-header-crlf-body": HEAD + b"\n" + crlf(TEXT),
    "mixed-crlf-only-in-separator": HEAD + b"\r\n" + TEXT,
    "no-final-newline": body(b"hello"),
    "no-final-newline-crlf": crlf(body(b"one\ntwo")),
    "no-final-newline-after-empty-lines": body(b"hello\n\n\n "),
    "final-cr-alone": crlf(body(b"hello")) + b"\r",
    "separator-last": HEAD + b"\n",
    "separator-last-crlf": crlf(HEAD + b"\n"),
    "header-only": HEAD,
    "header-only-crlf": crlf(HEAD),
    "header-only-no-final-newline": HEAD[:-1],
    "header-only-from": FROM,
    "header-only-from-no-final-newline": FROM[:-1],
    "header-only-ends-in-continuation": HEAD + b"Comments: a\n b",
    "header-only-ends-in-cr": HEAD[:-1] + b"\r",
    "separator-missing": HEAD + b"this is no header field\n" + TEXT,
    "separator-missing-crlf": crlf(HEAD + b"this is no header field\n" + TEXT),
    "separator-missing-colon-later": HEAD + b"Note well: the name has a blank inside\n" + TEXT,
    "separator-missing-8-bit-name": HEAD + b"Caf\xc3\xa9: name not US-ASCII\n" + TEXT,
    "separator-missing-no-name": HEAD + b": no name\n" + TEXT,
    "separator-missing-lone-dot": HEAD + b".\n" + TEXT,
    "separator-of-blanks": HEAD + b" \n\nthe line of blanks continues the field above it\n",
    "separator-of-blanks-then-text": HEAD + b" \t\nbody, since this line is no field\n",
}

# Bodies, in LF where nothing else is the point.
BODIES = {
    "one-character": b"x",
    "one-character-line": b"x\n",
    "one-newline": b"\n",
    "one-crlf": b"\r\n",
    "one-cr": b"\r",
    "one-blank": b" ",
    "one-blank-line": b" \n",
    "empty-lines": b"\n" * 7,
    "empty-lines-crlf": b"\r\n" * 7,
    "empty-lines-mixed": b"\n\r\n\n\n\r\n",
    "empty-lines-then-text": b"\n\n\nhello\n",
    "empty-lines-at-end": b"hello\n\n\n\n\n",
    "empty-lines-at-end-crlf": b"hello\r\n\r\n\r\n\r\n",
    "empty-lines-inside": b"a\n\n\n\nb\n\n\nc\n",
    "empty-lines-70000-then-text": b"\n" * 70000 + b"hello\n",
    "empty-lines-70000-at-end": b"hello\n" + b"\n" * 70000,
    "empty-lines-70000-only": b"\n" * 70000,
    "blank-lines-at-end": b"hello\n \n\t\n \t \n",
    "blank-lines-at-end-crlf": b"hello\r\n \r\n\t\r\n \t \r\n",
    "blank-lines-and-empty-lines-at-end": b"hello\n \n\n\t\n\n",
    "blank-lines-only": b" \n\t\n  \n",
    "blank-lines-5000-at-end": b"hello\n" + b" \t\n" * 5000,
    "blank-lines-then-text": b" \n\t\nhello\n",
    "trailing-blanks": b"sp \ntab\t\nboth \t \nnone\n",
    "trailing-blanks-crlf": b"sp \r\ntab\t\r\nboth \t \r\nnone\r\n",
    "trailing-blanks-no-final-newline": b"hello \t",
    "trailing-vt-ff-are-no-blanks": b"vt\x0b\nff\x0c\nmixed \x0b \x0c \n\x0b\n\x0c\n",
    "trailing-8-bit-spaces-are-no-blanks": b"nbsp\xa0\nnel\x85\nutf-8 nbsp\xc2\xa0\nutf-8 ls\xe2\x80\xa8\n",
    "trailing-controls-are-no-blanks": b"fs\x1c\ngs\x1d\nrs\x1e\nus\x1f\ndel\x7f\n",
    "trailing-nul": b"hello\x00\nhello \x00 \n",
    "runs-of-blanks": b"a  b\t\tc \t d\t e\n",
    "runs-of-vt-ff": b"a\x0b\x0bb\x0c\x0cc \x0b d\n",
    "leading-blanks": b" one\n  two\n\ttab\n \t both\n",
    "leading-vt-ff": b"\x0bvt\n\x0cff\n",
    "blanks-70000-then-text": b" " * 70000 + b"hello\n",
    "blanks-70000-inside": b"a" + b" \t" * 35000 + b"b\n",
    "blanks-70000-at-end": b"hello\n" + b"hello" + b"\t" * 70000 + b"\n",
    "blanks-70000-then-nothing": b"hello\n" + b" " * 70000,
    "bare-cr": b"a\rb\r c\n\rd\n",
    "bare-cr-at-line-end": b"hello\r\r\nhello\r\r\r\n\r\r\n",
    "bare-cr-after-blanks": b"hello \r\nhello \r \r\n \r\n",
    "bare-cr-lines-at-end": b"hello\r\n\r\r\n\r\n",
    "bare-cr-only": b"\r\r\r",
    "bare-cr-then-lf-after": b"hello\n\rhello\n\r",
    "bare-lf-in-crlf": b"one\r\ntwo\nthree\r\n\n\r\n",
    "nul": b"a\x00b\n\x00\n\x00\x00\n",
    "all-octets": bytes(range(256)) + b"\n",
    "8-bit-latin-1": "Grüße aus Köln\n".encode("latin-1"),
    "8-bit-utf-8": "Grüße aus Köln, 你好, 🙂\n".encode(),
    "8-bit-invalid-utf-8": b"\xff\xfe \xc3 \xed\xa0\x80\n",
    "8-bit-bom": b"\xef\xbb\xbfhello\n",
    "dot-alone": b"hello\n.\nnot lost\n",
    "dot-alone-crlf": b"hello\r\n.\r\nnot lost\r\n",
    "dot-alone-first": b".\nnot lost\n",
    "dot-alone-last": b"hello\n.\n",
    "dot-alone-last-no-final-newline": b"hello\n.",
    "dots-leading": b".hello\n..\n...\n. \n .\n",
    "from-lines": b"From alice@example.com Mon Jan  1 00:00:00 2026\n>From bob\nFrom \nFrom\n",
    "like-header": b"Subject: not a field\nFrom: mallory@example.org\n\nDKIM-Signature: v=1; b=\n",
    "like-tags": b"b=\nbh=; b=abc ;\nv=1; a=rsa-sha256; b=\r\n ;\nDKIM-Signature: b=\n",
    "like-smtp": b"QUIT\nRSET\nDATA\nMAIL FROM:<alice@example.com>\n",
    "like-backslashes": b"\\n \\r\\n \\1 \\g<0> %s {0} $sender\n",
    "lines-at-the-998-limit": b"".join(b"x" * size + b"\n" for size in (996, 997, 998)),
    "line-999": b"x" * 999 + b"\nhello\n",
    "line-1000": b"x" * 1000 + b"\nhello\n",
    "line-1995-breaks-twice": b"x" * 1995 + b"\n" + b"x" * 1996 + b"\n",
    "line-2048": b"x" * 2047 + b"\n" + b"x" * 2048 + b"\n" + b"x" * 2049 + b"\n",
    "line-5000-of-words": b"word " * 1000 + b"\n",
    "line-5000-dots": b"." * 5000 + b"\n",
    "line-998-then-blanks": b"x" * 998 + b" " * 5 + b"\n" + b"x" * 997 + b" y\n",
    "line-999-of-utf-8": "é".encode() * 600 + b"\n",
    "line-100000": b"x" * 100000 + b"\n",
    "line-100000-no-final-newline": b"hello\n" + b"x" * 100000,
}

RECIPIENTS = [b"R <r%d@example.net>" % number for number in range(160)]

# One or more header fields more.
FIELDS = {
    "obsolete-blank-before-colon": b"Comments : x\nKeywords \t : y\nIn-Reply-To\t:<0@example.com>\n",
    "no-blank-after-colon": b"Cc:carol@example.net\nX-A:b\n",
    "odd-names": (
        b"X-!#$%&'*+-/=?^_`{|}~: x\n1234: x\n(paren): x\n<a@b>: x\na;b=c: x\n\\: x\n" + b'"quoted": x\n'
    ),
    "odd-case": b"CC: carol@example.net\nmime-version: 1.0\ncOnTeNt-TyPe: text/plain\n",
    "name-is-prefix-of-another": b"Fro: x\nFrom-: x\nFroms: x\nX-From: mallory@example.org\nSubjects: x\n",
    "name-of-600-octets": b"X-" + b"n" * 598 + b": x\n",
    "empty-value": b"Cc:\nReply-To: \nIn-Reply-To:\t\nReferences:\r\n",
    "blank-value": b"Comments:    \nKeywords: \t \t\n",
    "blank-value-folded": b"Cc:\n \nReply-To: \n\t\n  \nReferences:\n <0@example.com>\n",
    "trailing-blanks": b"Cc: carol@example.net \t\nComments: x  \n",
    "leading-blanks": b"Cc: \t  carol@example.net\nComments:\t\tx\n",
    "runs-of-blanks": b"Comments: a  b\t\tc \t d\n",
    "vt-ff-are-no-blanks": b"Comments: a\x0b\x0bb \x0c c\x0c\nKeywords:\x0bx\x0b\n",
    "folded-sp": b"Cc: carol@example.net,\n dave@example.net\n",
    "folded-htab": b"Cc: carol@example.net,\n\tdave@example.net\n",
    "folded-crlf": b"Cc: carol@example.net,\r\n dave@example.net\r\n",
    "folded-with-trailing-blanks": b"Cc: carol@example.net, \t\n \t dave@example.net \n \n",
    "folded-at-once": b"References:\n <0@example.com>\nIn-Reply-To:\n\t\n\t<0@example.com>\n",
    "folded-blank-line": b"Comments: a\n \n b\n\t \n",
    "folded-in-word": b"Comments: uni\n form\n",
    "folded-500-times": b"References:" + b"\n <a@example.com>" * 500 + b"\n",
    "folded-like-field": b"Comments: x\n From: mallory@example.org\n\tSubject: y\n",
    "folded-dot": b"Comments: x\n .\n .\n",
    "bare-cr": b"Comments: a\rb\rFrom: mallory@example.org\n",
    "bare-cr-at-line-end": b"Comments: a\r\r\nKeywords: b\r\r\r\n c\r\r\n",
    "nul": b"Comments: a\x00b\nKeywords: \x00\n",
    "all-octets-but-line-ends": b"Comments: " + bytes(set(range(256)) - {10, 13}) + b"\n",
    "two-subjects": b"Subject: another\n",
    "two-of-all": REST,
    "three-to": b"To: carol@example.net\nTo: dave@example.net\n",
    "two-equal": b"Cc: carol@example.net\nCc: carol@example.net\n",
    "repeated-apart": b"Cc: a@example.net\nComments: x\nCc: b@example.net\nKeywords: y\ncc: c@example.net\n",
    "received-30": b"".join(
        b"Received: from h%d.example.net by example.com;\n Thu, 01 Jan 2026 00:00:%02d +0000\n" % (hop, hop)
        for hop in range(30)
    ),
    "5000-fields": b"".join(b"X-%d: %d\n" % (number, number) for number in range(5000)),
    "2000-to": b"".join(b"To: r%d@example.net\n" % number for number in range(2000)),
    "reply-to": b"Reply-To: Bob <bob@example.net>\n",
    "reply-to-three": b"Reply-To: a@example.net\nReply-To: b@example.net\nReply-To: c@example.net\n",
    "references-3000-on-one-line": b"References: " + b"<abcdefgh.12345678@example.com> " * 96 + b"\n",
    "references-3000-folded": b"References:" + b"\n\t<abcdefgh.12345678@example.com>" * 96 + b"\n",
    "line-998": b"Comments: " + b"x" * 988 + b"\n",
    "line-999": b"Comments: " + b"x" * 989 + b"\n",
    "line-1500-of-words": b"Comments: " + b"word " * 298 + b"\n",
    "line-1500-unbroken": b"Comments: " + b"x" * 1490 + b"\n",
    "line-1500-signed-of-words": b"References: " + b"<aaaaaaa@example.com> " * 68 + b"\n",
    "line-1500-signed-unbroken": b"In-Reply-To: <" + b"x" * 1472 + b"@example.com>\n",
    "line-1500-of-tabs": b"Comments: a" + b"\t" * 1490 + b"b\n",
    "line-1500-in-continuation": b"References: <0@example.com>\n " + b"<bbbbbbb@example.com> " * 68 + b"\n",
    "line-5000-of-8-bit": b"Comments: " + "é".encode() * 2500 + b"\n",
    "line-100000-unbroken": b"Comments: " + b"x" * 100000 + b"\n",
    "recipients-160-on-one-line": b"Cc: " + b", ".join(RECIPIENTS) + b"\n",
    "recipients-160-folded": b"Cc: " + b",\n\t".join(RECIPIENTS) + b"\n",
    "like-tags": b"Comments: b=abc; bh=def ;\nX-B: b=\nDKIM-Signatures: v=1; b=x;\nKeywords: ;= ; ;\n",
    "like-backslashes": b"Comments: \\1 \\n \\g<0> %s {0} $sender\n",
    "encoded-words": b"Comments: =?utf-8?q?Gr=C3=BC=C3=9Fe?= =?utf-8?b?8J+Zgg==?=\n",
    "dkim-other-domain": (
        b"DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/simple; d=example.org; s=s1;\n"
        b"\th=from:to:subject; bh=47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=;\n\tb=QUJD\n REVG\n"
    ),
    "dkim-same-domain": (
        b"DKIM-Signature: v=1; a=rsa-sha256; d=example.com; s=mail; h=from;\n"
        b" bh=47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=; b=QUJDREVG\n"
    ),
    "dkim-12-of-others": b"".join(b"DKIM-Signature: v=1; d=d%d.example; b=QUJD\n" % n for n in range(12)),
    "dkim-malformed": b"DKIM-Signature: x\nDKIM-Signature:\nDKIM-Signature: v=1; v=1\ndkim-signature : \n",
    "domainkey-other-domain": b"DomainKey-Signature: a=rsa-sha1; c=nofws;\n\ts=s; d=example.org; b=QQ==\n",
    "domainkey-same-domain": b"DomainKey-Signature: a=rsa-sha1; q=dns; s=mail; d=example.com; b=QUJD\n",
    "arc-set": (
        b"ARC-Seal: i=1; a=rsa-sha256; cv=none; d=example.org; s=s1; t=1; b=QUJD\n"
        b"ARC-Message-Signature: i=1; a=rsa-sha256; d=example.org; s=s1; h=from; bh=QUJD; b=QUJD\n"
        b"ARC-Authentication-Results: i=1; mx.example.org; dkim=none\n"
    ),
    "never-signed": (
        b"Return-Path: <alice@example.com>\nBcc: eve@example.net\nResent-Bcc: eve@example.net\n"
        b"Delivered-To: bob@example.net\nX-Original-To: bob@example.net\nContent-Length: 3\nStatus: RO\n"
        b"Comments: x\nKeywords: y\nAuthentication-Results: mx.example.com; dkim=pass header.d=example.com\n"
    ),
    "resent-twice": (
        b"Resent-From: carol@example.net\nResent-To: dave@example.net\nResent-Message-ID: <r2@example.net>\n"
        b"Resent-Date: Fri, 02 Jan 2026 00:00:00 +0000\nResent-Sender: c@example.net\nReceived: x;\n y\n"
        b"Resent-From: eve@example.org\nResent-To: carol@example.net\nResent-Cc: f@example.net\n"
        b"Resent-Date: Thu, 01 Jan 2026 12:00:00 +0000\nResent-Message-ID: <r1@example.org>\n"
    ),
    "list": (
        b"List-Id: Friends of Bob <friends.example.com>\nList-Help: <mailto:friends-help@example.com>\n"
        b"List-Unsubscribe: <https://example.com/u?i=1&j=2>,\n <mailto:friends-leave@example.com>\n"
        b"List-Unsubscribe-Post: List-Unsubscribe=One-Click\nList-Subscribe: <mailto:join@example.com>\n"
        b"List-Post: NO\nList-Owner: <mailto:owner@example.com>\nList-Archive: <https://example.com/>\n"
    ),
    "sender-equal": b"Sender: Alice <alice@example.com>\n",
    "sender-same-domain": b"Sender: secretary@example.com\n",
    "sender-other-domain": b"Sender: Carol <carol@example.net>\n",
    "sender-unusable": b"Sender: <>\n",
    "sender-two": b"Sender: carol@example.net\nSender: dave@example.org\n",
    "resent-from-is-no-from": b"Resent-From: x@example.org\nX-From: x@example.org\nFrom-X: y@example.org\n",
    "mime-8bit": b"MIME-Version: 1.0\nContent-Type: text/plain\nContent-Transfer-Encoding: 8bit\n",
}

# Values of From whose mailbox is in example.com or below it.
SENDERS = {
    "bare": b"alice@example.com",
    "angle-only": b"<alice@example.com>",
    "no-blank-before-angle": b"Alice<alice@example.com>",
    "blanks-round": b" \t  alice@example.com \t ",
    "blanks-round-at-and-dots": b"Alice <alice @ example . com>",
    "blanks-in-bare": b"alice @ example.com",
    "quoted-name": b'"Alice, of Example" <alice@example.com>',
    "quoted-name-with-escapes": b'"Alice \\"the \\\\ one\\" <x@example.org>" <alice@example.com>',
    "quoted-name-with-at": b'"alice@example.org" <alice@example.com>',
    "quoted-name-with-paren": b'"Alice (" <alice@example.com>',
    "quoted-name-empty": b'"" <alice@example.com>',
    "quoted-name-folded": b'"Alice\n of Example" <alice@example.com>',
    "unquoted-dots": b"Alice B. Example <alice@example.com>",
    "unquoted-utf-8": "Älice <alice@example.com>".encode(),
    "unquoted-latin-1": "Älice <alice@example.com>".encode("latin-1"),
    "unquoted-invalid-utf-8": b"\xff\xfe <alice@example.com>",
    "encoded-words": b"=?utf-8?q?=C3=84lice?= =?iso-8859-1?b?xA==?= <alice@example.com>",
    "encoded-word-with-address": b"=?utf-8?q?mallory=40example=2Eorg?= <alice@example.com>",
    "comment-after": b"alice@example.com (Alice)",
    "comment-before": b"(Alice) alice@example.com",
    "comment-nested": b"Alice (a (b (c) d) e) <alice@example.com> (x (y))",
    "comment-with-escapes": b"(a \\) <x@example.org> \\( b) alice@example.com",
    "comment-with-quote": b'(a " b) alice@example.com',
    "comment-with-address": b"(mallory@example.org) alice@example.com (eve@example.net)",
    "comment-everywhere": b"(a) alice (b) @ (c) example (d) . (e) com (f)",
    "comment-2000-deep": b"\n ".join([b"(" * 100] * 20 + [b")" * 100] * 20) + b"\n alice@example.com",
    "comment-between-angles": b"Alice <(x)alice(y)@(z)example.com(@example.org)>",
    "quoted-local": b'"alice of example"@example.com',
    "quoted-local-with-at": b'"alice@home"@example.com',
    "quoted-local-with-angle": b'Alice <"a>b@example.org"@example.com>',
    "quoted-local-with-escape": b'"a\\"b@example.org\\\\"@example.com',
    "quoted-local-in-parts": b'Alice <"a".b."c d"@example.com>',
    "extension": b"Alice <alice+folder@example.com>",
    "local-of-odd-characters": b"!#$%&'*+-/=?^_`{|}~@example.com",
    "local-of-300-octets": b"a" * 300 + b"@example.com",
    "local-utf-8": "älice@example.com".encode(),
    "local-in-upper-case": b"ALICE@example.com",
    "domain-in-upper-case": b"alice@EXAMPLE.COM",
    "domain-in-mixed-case": b"Alice <alice@Example.cOm>",
    "domain-below": b"alice@mail.example.com",
    "domain-far-below": b"alice@a.b.c.d.e.example.com",
    "domain-u-label": "alice@bücher.example.com".encode(),
    "domain-u-label-in-upper-case": "alice@BÜCHER.example.com".encode(),
    "domain-a-label": b"alice@xn--bcher-kva.example.com",
    "domain-a-label-in-upper-case": b"alice@XN--BCHER-KVA.example.com",
    "group": b"Team: Alice <alice@example.com>, bob@example.com;",
    "group-of-one": b"Team:alice@example.com;",
    "route": b"Alice <@relay.example.net:alice@example.com>",
    "route-long": b"<@a.example.net,@b.example.net:alice@example.com>",
    "mailboxes-two": b"Alice <alice@example.com>, Bob <bob@example.com>",
    "mailboxes-two-with-commas-inside": b'"a, b" <alice@example.com> (c, d), bob@example.com',
    "mailboxes-empty-between": b"alice@example.com,, ,bob@example.com,",
    "mailboxes-1000-folded": b",\n ".join(b"a%d@example.com" % number for number in range(1000)),
    "folded": b"Alice\n <alice@example.com>",
    "folded-at-once": b"\n Alice <alice@example.com>",
    "folded-crlf-htab": b"Alice\r\n\t<alice@example.com>",
    "folded-in-angle": b"Alice <alice\n @example\n .com>",
    "folded-blank-line": b"Alice\n \n <alice@example.com>\n ",
    "long-name-of-1500": b"Alice " * 250 + b"<alice@example.com>",
}

# Octets on both sides of the end of a read: (last of one, first of the next).
STRADDLES = {
    "cr-lf": (b"text\r", b"\nmore\r\n"),
    "crlf-text": (b"text\r\n", b"more\r\n"),
    "empty-lines": (b"text\r\n\r\n", b"\r\n\r\nmore\r\n"),
    "empty-lines-cr-lf": (b"text\r\n\r", b"\n\r\nmore\r\n"),
    "empty-lines-at-end": (b"text\r\n\r\n", b"\r\n\r\n"),
    "blanks": (b"text \t", b" \tmore\r\n"),
    "blanks-at-line-end": (b"text \t", b" \r\nmore\r\n"),
    "blank-line-at-end": (b"text\r\n ", b" \r\n"),
    "bare-cr": (b"text\r", b"more\r\n"),
    "bare-lf": (b"text\n", b"\nmore\n"),
    "cr-at-end": (b"text", b"\r"),
    "nothing": (b"text\r\n", b""),
}
FEW = ("cr-lf", "empty-lines", "blanks-at-line-end", "nothing")
HEADER_STRADDLES = {
    "field-cr-lf": (b"\r", b"\nX-A: b\r\n\r\n" + TEXT),
    "fold": (b"\r\n", b"\tcontinued\r\n\r\n" + TEXT),
    "separator": (b"\r\n", b"\r\n" + TEXT),
    "separator-cr-lf": (b"\r\n\r", b"\n" + TEXT),
    "separator-body": (b"\r\n\r\n", TEXT),
    "name-colon": (b"\r\nX-A", b": b\r\n\r\n" + TEXT),
}

MULTIPART = b"""\
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary="outer ="

preamble
--outer =
Content-Type: multipart/alternative;
\tboundary=inner

--inner
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: quoted-printable

Gr=C3=BC=C3=9Fe, a soft break=
 and a kept blank=20
--inner
Content-Type: text/html

<p>hello
--inner--

--outer =
Content-Type: application/octet-stream
Content-Transfer-Encoding: base64

%b--outer =--
epilogue

""" % base64_lines(40)

FORWARDED = (
    b"MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: message/rfc822\n\n"
    b"DKIM-Signature: v=1; d=example.org; b=QUJD\nFrom: carol@example.org\nFrom: dave@example.org\n\n"
    b"inner text \n\n--b--\n"
)

# All that follows the name Subject, in a message with no other field but From.
SUBJECTS = {
    "8-bit-latin-1": ": Grüße".encode("latin-1"),
    "8-bit-utf-8": ": Grüße 🙂".encode(),
    "8-bit-utf-8-folded": ": Grüße\n\taus Köln".encode(),
    "blank-before-colon": b" : x",
    "htab-before-colon": b" \t:x",
    "empty": b":",
    "of-blanks": b":  \t ",
    "trailing-blanks": b": x \t ",
    "runs-of-blanks": b": \t a  b\t\tc\n  d",
    "continued-by-blanks": b": x\n ",
    "vt-ff": b": \x0b a \x0c b\x0b",
    "nul": b": a\x00b",
    "bare-cr": b": a\rb",
    "bare-cr-at-line-end": b": a\r\r",
    "1500-of-words": b": " + b"word " * 298,
    "1500-unbroken": b": " + b"x" * 1491,
    "1500-unbroken-8-bit": b": " + "é".encode() * 750,
}

# Messages that no table above can hold.
WHOLE = {
    "mbox-line-on-top": b"From alice@example.com Mon Jan  1 00:00:00 2026\n" + body(TEXT),
    "mbox-line-on-top-crlf": crlf(b"From alice@example.com Mon Jan  1 00:00:00 2026\n" + body(TEXT)),
    "mbox-lines-quoted-on-top": b"From x\n>From alice@example.com Mon Jan  1 00:00:00 2026\n" + body(TEXT),
    "from-last": REST + FROM + b"\n" + TEXT,
    "from-amid-received": b"Received: a\n\tb\n" + FROM + b"Received: c\n" + REST + b"\n" + TEXT,
    "from-in-odd-case": b"fROM: Alice <alice@example.com>\n" + REST + b"\n" + TEXT,
    "from-blank-before-colon": b"From : Alice <alice@example.com>\n" + REST + b"\n" + TEXT,
    "from-htab-before-colon": b"From\t \t:alice@example.com\n" + REST + b"\n" + TEXT,
    "from-no-blank-after-colon": b"From:alice@example.com\n" + REST + b"\n" + TEXT,
    "from-in-body-too": body(b"From: mallory@example.org\n\nhello\n"),
    "from-in-body-too-separator-missing": HEAD + b"no field\nFrom: mallory@example.org\n\nhello\n",
    "date-and-message-id-absent": FROM + b"To: bob@example.net\n\n" + TEXT,
    "to-160-recipients": FROM + b"To: " + b", ".join(RECIPIENTS) + b"\n\n" + TEXT,
    "mime-multipart-nested": HEAD + MULTIPART,
    "mime-multipart-nested-crlf": crlf(HEAD + MULTIPART),
    "mime-base64-100000": HEAD + b"Content-Transfer-Encoding: base64\n\n" + base64_lines(1300),
    "mime-quoted-printable": (
        HEAD + b"Content-Transfer-Encoding: quoted-printable\n\na=20=\n\t=\n b =3D=09\n=\n"
    ),
    "mime-8bit": HEAD + b"MIME-Version: 1.0\nContent-Transfer-Encoding: 8bit\n\n" + "Grüße \n".encode(),
    "mime-message-rfc822": HEAD + FORWARDED,
    "mime-delivery-status": (
        HEAD + b"Content-Type: message/delivery-status\n\nReporting-MTA: dns; x\n\nAction: failed\n"
    ),
    "mime-boundary-missing": HEAD + b"Content-Type: multipart/mixed\n\n--\n--x\n",
}

MESSAGES: dict[str, bytes] = {
    **ENDS,
    **{f"body-{name}": body(octets) for name, octets in BODIES.items()},
    **{f"field-{name}": fields(octets) for name, octets in FIELDS.items()},
    **{f"from-{name}": sender(value) for name, value in SENDERS.items()},
    **{f"subject-{name}": FROM + b"Subject" + value + b"\n\n" + TEXT for name, value in SUBJECTS.items()},
    **{f"read-4096-{name}": straddle(4096, *ends) for name, ends in STRADDLES.items()},
    **{f"read-8192-{name}": straddle(8192, *ends) for name, ends in STRADDLES.items()},
    **{f"read-65536-{name}": straddle(65536, *STRADDLES[name]) for name in FEW},
    **{f"read-4096-of-body-{name}": straddle(BODY_START + 4096, *STRADDLES[name]) for name in FEW},
    **{f"read-65536-of-body-{name}": straddle(BODY_START + 65536, *STRADDLES[name]) for name in FEW},
    **{f"read-4096-header-{name}": straddle_header(4096, *ends) for name, ends in HEADER_STRADDLES.items()},
    **WHOLE,
}

LARGE: dict[str, bytes] = {
    "header-1000000-of-many-fields": fields(b"".join(b"X-%05d: %s\n" % (n, b"x" * 61) for n in range(14000))),
    "header-1000000-of-one-field": fields(b"References:" + b"\n <abcdefg@example.com>" * 43000 + b"\n"),
    "header-1000000-of-one-line": fields(b"Comments: " + b"word " * 200000 + b"\n"),
    "body-3000000-of-crlf-lines": crlf(body((b"x" * 70 + b"\n") * 42000)),
    "body-empty-lines-1500000-then-text": body(b"\n" * 1500000 + b"hello\n"),
    "body-line-1500000": body(b"x" * 1500000 + b"\n"),
    **{f"read-1048576-{name}": straddle(1048576, *STRADDLES[name]) for name in FEW},
}

# Values of From without a usable mailbox; those of 200,000 octets ask for linear time.
BAD_SENDERS = {
    "empty": b"",
    "blanks": b" \t ",
    "folded-blanks": b"\n \n\t",
    "null": b"<>",
    "null-with-name": b"Alice <>",
    "name-only": b"Alice",
    "local-only": b"alice",
    "local-only-in-angle": b"Alice <alice>",
    "local-missing": b"@example.com",
    "domain-missing": b"alice@",
    "domain-missing-in-angle": b"Alice <alice@>",
    "at-only": b"@",
    "at-twice": b"alice@example.org@example.com",
    "dots-in-domain": b"alice@example..com",
    "dot-before-domain": b"alice@.example.com",
    "group-empty": b"undisclosed:;",
    "group-empty-with-blanks": b"undisclosed-recipients: ;",
    "comment-only": b"(alice@example.com)",
    "quoted-only": b'"alice@example.com"',
    "encoded-word-only": b"=?utf-8?q?alice=40example=2Ecom?=",
    "commas-only": b", ,,",
    "quote-unbalanced": b'"Alice <alice@example.com>',
    "quote-unbalanced-by-escape": b'"Alice\\" <alice@example.com>',
    "comment-unbalanced": b"(Alice <alice@example.com>",
    "comment-unbalanced-by-escape": b"(Alice \\) alice@example.com",
    "comment-unbalanced-nested": b"((Alice) alice@example.com",
    "200000-parens": b"(" * 200000,
    "200000-parens-closed": b"(" * 100000 + b")" * 100000,
    "200000-quotes": b'"' * 200001,
    "200000-quoted-pairs": b'"' + b"\\a" * 100000,
    "200000-angles": b"<" * 200000,
    "200000-ats": b"@" * 200000,
    "200000-commas": b"," * 200000,
    "200000-blanks": b" \t" * 100000,
    "200000-folds": b"a" + b"\n a" * 66666,
    "200000-dots": b"a." * 100000,
    "200000-comments": b"(a)" * 66666,
}

UNSIGNABLE: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "empty"),
    "newline": (b"\n", "no-from"),
    "newlines": (b"\n\n\n", "no-from"),
    "crlf": (b"\r\n", "no-from"),
    "blank": (b" ", "no-from"),
    "nul": (b"\x00", "no-from"),
    "body-only": (b"\n" + HEAD + b"\n" + TEXT, "no-from"),
    "body-only-crlf": (crlf(b"\n" + HEAD + b"\n" + TEXT), "no-from"),
    "text-only": (b"Dear Bob, hello\n" + TEXT, "no-from"),
    "first-line-no-field": (b"this is no header field\n" + body(TEXT), "no-from"),
    "first-line-continuation": (b" x\n" + body(TEXT), "no-from"),
    "first-line-no-name": (b": x\n" + body(TEXT), "no-from"),
    "mbox-line-only": (b"From alice@example.com Mon Jan  1 00:00:00 2026\n", "no-from"),
    "from-absent": (REST + b"\n" + TEXT, "no-from"),
    "from-below-separator": (REST + b"\n" + FROM + b"\n" + TEXT, "no-from"),
    "from-below-missing-separator": (REST + b"no field\n" + FROM + b"\n" + TEXT, "no-from"),
    "from-in-continuation": (b"To: x\n " + FROM + REST + b"\n" + TEXT, "no-from"),
    "from-after-bare-cr": (b"To: x\r" + FROM + REST + b"\n" + TEXT, "no-from"),
    "from-look-alikes": (b"Resent-" + FROM + b"X-" + FROM + b"From-X: a@example.com\n\n", "no-from"),
    "from-name-with-8-bit": (b"From\xa0: alice@example.com\n" + REST + b"\n" + TEXT, "no-from"),
    "from-without-colon": (b"From alice@example.com\nFrom\n" + REST + b"\n" + TEXT, "no-from"),
    "from-two": (FROM + b"From: Bob <bob@example.com>\n" + REST + b"\n" + TEXT, "many-from"),
    "from-two-equal": (FROM + FROM + REST + b"\n" + TEXT, "many-from"),
    "from-two-apart-in-odd-case": (FROM + REST + b"FROM \t: bob@example.net\n\n" + TEXT, "many-from"),
    "from-two-first-unusable": (b"From: <>\n" + FROM + REST + b"\n" + TEXT, "many-from"),
    "from-two-second-empty": (FROM + REST + b"from:\n\n" + TEXT, "many-from"),
    "from-1000": (FROM * 1000 + REST + b"\n" + TEXT, "many-from"),
    **{f"from-{name}": (sender(value), "bad-from") for name, value in BAD_SENDERS.items()},
}

ELSEWHERE: dict[str, bytes] = {
    name: sender(value)
    for name, value in {
        "plain": b"mallory@example.org",
        "below-nothing": b"mallory@com",
        "ends-alike": b"mallory@evilexample.com",
        "ends-alike-with-hyphen": b"mallory@evil-example.com",
        "begins-alike": b"mallory@example.com.example.org",
        "longer": b"mallory@example.community",
        "decoy-in-quoted-name": b'"alice@example.com" <mallory@example.org>',
        "decoy-in-quoted-name-with-angles": b'"Alice <alice@example.com>" <mallory@example.org>',
        "decoy-in-escaped-quotes": b'"a\\" <alice@example.com> \\"" <mallory@example.org>',
        "decoy-in-comment": b"(alice@example.com) mallory@example.org",
        "decoy-in-nested-comment": b"(a (b) <alice@example.com>) <mallory@example.org>",
        "decoy-in-comment-after": b"mallory@example.org (<alice@example.com>)",
        "decoy-in-encoded-word": b"=?utf-8?q?=3Calice=40example=2Ecom=3E?= <mallory@example.org>",
        "decoy-in-quoted-local": b'"alice@example.com"@example.org',
        "decoy-in-quoted-local-in-angle": b'Alice <"<alice@example.com>"@example.org>',
        "decoy-in-route": b"<@example.com:mallory@example.org>",
        "decoy-in-folded-name": b'"Alice\n <alice@example.com>"\n <mallory@example.org>',
        "decoy-second": b"mallory@example.org, alice@example.com",
        "decoy-second-in-group": b"Team: mallory@example.org, alice@example.com;",
        "u-label-alike": "mallory@examplé.com".encode(),
        "cyrillic-alike": "mallory@ex\u0430mple.com".encode(),
    }.items()
}

EITHER: dict[str, bytes] = {
    name: sender(value)
    for name, value in {
        "trailing-dot-in-domain": b"alice@example.com.",
        "dots-in-local": b"alice..b@example.com",
        "dot-before-at": b"alice.@example.com",
        "angle-unclosed": b"Alice <alice@example.com",
        "angle-twice": b"Alice <<alice@example.com>>",
        "angle-then-junk": b"<alice@example.com> junk",
        "angle-two-without-comma": b"<alice@example.com> <mallory@example.org>",
        "name-with-at": b"alice@example.com <alice@example.com>",
        "name-with-at-of-another": b"mallory@example.org <alice@example.com>",
        "semicolon-for-comma": b"alice@example.com; bob@example.com",
        "group-unclosed": b"Team: alice@example.com",
        "group-empty-then-mailbox": b"undisclosed:;, alice@example.com",
        "null-then-mailbox": b"<>, alice@example.com",
        "mailboxes-of-two-domains": b"alice@example.com, mallory@example.org",
        "mailto": b"<mailto:alice@example.com>",
        "domain-literal": b"alice@[192.0.2.1]",
        "domain-of-8-bit-latin-1": "alice@bücher.example.com".encode("latin-1"),
        "domain-a-label-malformed": b"alice@xn--\x7f.example.com",
        "domain-label-of-70-octets": b"alice@" + b"a" * 70 + b".example.com",
        "domain-of-300-labels": b"alice@" + b"a." * 300 + b"example.com",
        "domain-with-underscore": b"alice@a_b.example.com",
        "domain-with-full-width-dot": "alice@example\u3002com".encode(),
        "nul-in-domain": b"alice@exam\x00ple.com",
        "nul-in-local": b"al\x00ice@example.com",
        "bare-cr-in-name": b"Alice\r<alice@example.com>",
        "vt-round-at": b"alice\x0b@\x0cexample.com",
        "paren-closed-only": b"Alice) <alice@example.com>",
    }.items()
}
