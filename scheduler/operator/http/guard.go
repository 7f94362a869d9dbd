package http

import (
	"fmt"
	"net"
	"net/netip"
	"syscall"
)

// special are networks that netip does not tell from public ones, with what they are.
//
// Source: the IANA registries of special-purpose addresses (RFC 6890 and its updates).
var special = []struct {
	net  netip.Prefix
	what string
}{
	{netip.MustParsePrefix("0.0.0.0/8"), "this network"},
	{netip.MustParsePrefix("100.64.0.0/10"), "shared address space of providers"},
	{netip.MustParsePrefix("168.63.129.16/32"), "the host of a machine in Azure"},
	{netip.MustParsePrefix("192.0.0.0/24"), "protocol assignments"},
	{netip.MustParsePrefix("192.0.2.0/24"), "documentation"},
	{netip.MustParsePrefix("192.88.99.0/24"), "a 6to4 relay"},
	{netip.MustParsePrefix("198.18.0.0/15"), "benchmarks"},
	{netip.MustParsePrefix("198.51.100.0/24"), "documentation"},
	{netip.MustParsePrefix("203.0.113.0/24"), "documentation"},
	{netip.MustParsePrefix("240.0.0.0/4"), "reserved"},
	// Networks of IPv6 that lead to an address of IPv4, whatever that is, or nowhere.
	{netip.MustParsePrefix("::/96"), "IPv4-compatible"},
	{netip.MustParsePrefix("64:ff9b::/96"), "NAT64"},
	{netip.MustParsePrefix("64:ff9b:1::/48"), "NAT64"},
	{netip.MustParsePrefix("100::/64"), "discarded"},
	{netip.MustParsePrefix("2001::/23"), "protocol assignments"},
	{netip.MustParsePrefix("2001:db8::/32"), "documentation"},
	{netip.MustParsePrefix("2002::/16"), "6to4"},
	{netip.MustParsePrefix("3fff::/20"), "documentation"},
	{netip.MustParsePrefix("5f00::/16"), "segment routing"},
	{netip.MustParsePrefix("fec0::/10"), "site-local"},
}

// notPublic says what an address is that the public internet can not reach, or "".
func notPublic(ip netip.Addr) string {
	ip = ip.Unmap().WithZone("")
	switch {
	case ip.IsUnspecified():
		return "unspecified"
	case ip.IsLoopback():
		return "loopback"
	case ip.IsLinkLocalUnicast():
		return "link-local"
	case ip.IsMulticast():
		return "multicast"
	case ip.IsPrivate():
		return "private"
	case !ip.IsGlobalUnicast():
		return "not unicast"
	}
	for _, s := range special {
		if s.net.Contains(ip) {
			return s.what
		}
	}
	return ""
}

// blocked is a connection that must not be made.
type blocked struct{ addr, what string }

// Error implements error.
func (b *blocked) Error() string {
	return fmt.Sprintf("refused to connect to %s: the address is %s, and tasks may only reach public ones; the operator of this server opens "+
		"them with executors.local.allow_private: true", b.addr, b.what)
}

// guard is net.Dialer.Control. It sees the address that is about to be dialled, after the name was resolved, and for every redirect again: a
// name that resolves to something else at its second look (DNS rebinding) gains nothing. own are the addresses of this machine, which a
// firewall may keep from the world and not from itself.
func guard(own func() ([]net.Addr, error)) func(network, address string, _ syscall.RawConn) error {
	return func(_, address string, _ syscall.RawConn) error {
		ap, err := netip.ParseAddrPort(address)
		if err != nil {
			return &blocked{address, "not an IP address"}
		}
		if what := notPublic(ap.Addr()); what != "" {
			return &blocked{address, what}
		}
		addrs, err := own()
		if err != nil {
			return fmt.Errorf("list the addresses of this machine: %w", err)
		}
		for _, a := range addrs {
			if prefix, err := netip.ParsePrefix(a.String()); err == nil && prefix.Addr().Unmap() == ap.Addr().Unmap() {
				return &blocked{address, "one of this machine"}
			}
		}
		return nil
	}
}
