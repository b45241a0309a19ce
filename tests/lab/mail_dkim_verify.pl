#!/usr/bin/perl
# Verifies DKIM and DomainKeys signatures with Mail::DKIM::Verifier (Debian libmail-dkim-perl),
# many messages a run.
#
#   mail_dkim_verify.pl PORT < frames
#
# PORT is the UDP and TCP port of a DNS server on 127.0.0.1. A frame is a message's length in octets, LF, and
# the message with CRLF line ends. One line of output a message: a verdict for each DKIM-Signature and
# DomainKey-Signature field, top to bottom, separated by tabs: `dkim:pass`, `domainkeys:fail (message has been
# altered)`, `dkim:unparsable (syntax error)`; the empty line when there is none.
#
# Mail::DKIM's own ways, and what is done about them here:
# - A signature field it cannot parse is not in its list of signatures; here it keeps its place, `unparsable`.
# - Where From (or Sender) is folded it does not find the address of a DomainKeys signer and says
#   `bad identity`; here it gets the unfolded field. What it hashes is left alone.
# - It judges 51 signature fields of a message and drops the rest in silence; the limit is raised.
# - It asks the DNS anew for each signature; answers are kept for the length of the run.
# - PRINT holds back the text after the last CRLF and DomainKeys nofws sees a bare CR or LF differently at the
#   edge of a chunk; each message goes in by one PRINT, its octets untouched (raw handles).

use strict;
use warnings;

package Witness;
use parent 'Mail::DKIM::Verifier';

sub handle_header {
    my ( $self, $name, @rest ) = @_;
    my $before = @{ $self->{signatures} };
    $self->SUPER::handle_header( $name, @rest );
    return unless lc $name eq 'dkim-signature' || lc $name eq 'domainkey-signature';
    my $kind = lc $name eq 'dkim-signature' ? 'dkim' : 'domainkeys';
    my $signature = @{ $self->{signatures} } > $before ? $self->{signatures}[-1] : undef;
    push @{ $self->{in_order} }, [ $kind, $signature, $self->{signature_reject_reason} ];
}

sub verdicts {
    my ($self) = @_;
    my @found;
    for my $entry ( @{ $self->{in_order} || [] } ) {
        my ( $kind, $signature, $reason ) = @$entry;
        my $verdict = $signature && $signature->result_detail;
        $verdict //= ( $signature ? 'invalid' : 'unparsable' ) . ' (' . ( $reason // 'no reason' ) . ')';
        $verdict =~ s/[\x00-\x1f\x7f-\xff]+/ /g;
        push @found, "$kind:$verdict";
    }
    return @found;
}

package main;

use Mail::DKIM::DNS;
use Net::DNS;

$Mail::DKIM::Verifier::MAX_SIGNATURES_TO_PROCESS = 1_000_000;
my $port = shift or die "usage: $0 PORT < frames\n";
Mail::DKIM::DNS::resolver(
    Net::DNS::Resolver->new(
        nameservers => ['127.0.0.1'], port    => $port, recurse  => 0, searchlist  => [], dnsrch => 0,
        defnames    => 0,             retrans => 1,     retry    => 3, udp_timeout => 5,  tcp_timeout => 5,
    )
);

# An entry is the list query() gave with the $@ it left; an error is not kept.
my ( $ask, %kept ) = ( \&Mail::DKIM::DNS::query );
{
    no warnings 'redefine';
    *Mail::DKIM::DNS::query = sub {
        my $key = lc "$_[0] $_[1]";
        $kept{$key} //= do { my @found = $ask->(@_); [ $@, @found ] };
        my ( $note, @found ) = @{ $kept{$key} };
        $@ = $note;
        return @found;
    };
}

{
    no warnings 'redefine';
    my $finish = \&Mail::DKIM::Canonicalization::DkCommon::finish_header;
    *Mail::DKIM::Canonicalization::DkCommon::finish_header = sub {
        my ( $self, %given ) = @_;
        $finish->(@_);
        my %signed = map { lc $_ => 1 } $self->{Signature}->headerlist;
        for my $field ( @{ $given{Headers} }[ -$self->{header_count} .. -1 ] ) {
            next unless $field =~ /\015\012[ \t]/ && $field =~ /^(from|sender)[ \t]*:(.*)/is;
            my ( $name, $content ) = ( lc $1, $2 );
            next if %signed && !$signed{$name};
            $content =~ s/\015\012//g;
            $self->{interesting_header}{$name} //= $content;
        }
    };
}

binmode STDIN;
binmode STDOUT;
while ( defined( my $length = <STDIN> ) ) {
    chomp $length;
    my $message = '';
    die "short frame\n" if $length && read( STDIN, $message, $length ) != $length;
    my $verifier = Witness->new;
    my $line = eval {
        $verifier->PRINT($message);
        $verifier->CLOSE;
        join "\t", $verifier->verdicts;
    };
    if ( !defined $line ) {
        ( $line = "unreadable: $@" ) =~ s/[\x00-\x1f\x7f-\xff]+/ /g;
    }
    print "$line\n";
}
