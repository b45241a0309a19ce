"""What to do about a key file that cannot be used: if possible, the command that converts it.

It is loaded only for such a file. Whatever is in it, the public half of a key is in DNS already: a new key is
the last resort, since it needs a new record.
"""

_LAST_RESORT = "a new key needs a new record: dkimpipe genkey DOMAIN"
RESTORE = f"restore the key of the published record from a backup, or export it again; {_LAST_RESORT}"
CONVERT = f"convert it to PEM, or restore the key of the published record from a backup; {_LAST_RESORT}"
OTHER_FILE = f"name the file with the key of the published record, RSA or Ed25519; {_LAST_RESORT}"
REPLACE = "replace it: dkimpipe genkey DOMAIN writes a new key, and the record to publish"

_SSH_KEYGEN = "install -m 600 {path} NEWFILE && ssh-keygen -p -N '' -m PEM -f NEWFILE "
HINTS = {
    "is encrypted": "openssl pkey -in {path} -out NEWFILE writes a copy without a passphrase",
    "is encrypted, in DER": (
        "openssl pkey -inform DER -in {path} -out NEWFILE writes a copy without a passphrase, in PEM"
    ),
    "is encrypted, in OpenSSH format": _SSH_KEYGEN + "writes a copy without a passphrase",
    "contains a public key": "give the private key file; the public key belongs in DNS",
    "contains a DKIM record": "give the private key file; the record belongs in DNS",
    "contains a certificate": "give the private key file; a certificate contains only the public key",
    "contains a certificate request": "give the private key file; a request contains only the public key",
    "is in PKCS #7 format": "give the private key file; PKCS #7 contains only certificates",
    "is in DER": "openssl pkey -inform DER -in {path} -out NEWFILE converts it to PEM",
    "is in PKCS #12 format": "openssl pkcs12 -in {path} -nodes -nocerts -out NEWFILE extracts the key",
    "is in OpenSSH format": _SSH_KEYGEN + "converts it",
    "is in PuTTY format": "puttygen {path} -O private-openssh -o NEWFILE converts it",
    "is a Microsoft key BLOB": "openssl pkey -inform MSBLOB -in {path} -out NEWFILE converts it to PEM",
    "is in PVK format": "openssl pkey -inform PVK -in {path} -out NEWFILE converts it to PEM",
    "is compressed by gzip": "(umask 077; gzip -dc <{path} >NEWFILE) decompresses it",
    "is compressed by bzip2": "(umask 077; bzip2 -dc <{path} >NEWFILE) decompresses it",
    "is compressed by xz": "(umask 077; xz -dc <{path} >NEWFILE) decompresses it",
    "is compressed by zstd": "(umask 077; zstd -dc <{path} >NEWFILE) decompresses it",
    "is a ZIP archive": "(umask 077; unzip -p {path} >NEWFILE) extracts its files, one after another",
    "is encrypted by Ansible Vault": "ansible-vault decrypt --output NEWFILE {path} decrypts it",
    "is encrypted by age": "(umask 077; age -d -i IDENTITY {path} >NEWFILE) decrypts it",
    "contains no PEM block": CONVERT,
    "contains an RSA key without its primes": (
        "export it again with p and q, or calculate them: rsa_recover_prime_factors(n, e, d) of the Python "
        "package cryptography"
    ),
    # Any 32 octets are a private key, and nothing in the file says which half these are.
    "contains 32 bytes that may be either half of an Ed25519 key": (
        "(umask 077; grep -Eo '[0-9A-Fa-f]{64}|[A-Za-z0-9+/_-]{43}=?' <{path} >NEWFILE) extracts them; "
        "if they are the private half, dkimpipe genkey --show NEWFILE prints the p= of the published record"
    ),
    "is encrypted by SOPS": "(umask 077; sops -d {path} >NEWFILE) decrypts it",
}
# openssl(1) needs the lines of PEM as they were.
ENCRYPTED_MANGLED = (
    "(echo '-----BEGIN ENCRYPTED PRIVATE KEY-----'; tr -d '\\n\\r\\t >\"' <{path} "
    "| sed 's/.*-BEGIN[^-]*-----//;s/-----END.*//;s/\\\\[nr]//g' | fold -w 64; echo; "
    "echo '-----END ENCRYPTED PRIVATE KEY-----') "
    "| openssl pkey -out NEWFILE writes a copy without a passphrase"
)


def hint(fault: str) -> str:
    """Return how to fix a fault, with {path} for the file."""
    if fault in HINTS:
        return HINTS[fault]
    if fault.startswith(("contains an RSA key of ", "contains an RSA key with ")):
        return REPLACE
    is_of_another_type = fault.startswith(("contains an ", "contains a DSA", "contains a key type"))
    return OTHER_FILE if is_of_another_type else RESTORE
