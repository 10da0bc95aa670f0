#include "devices/network/link/link.hpp"

#include <fmt/format.h>

#include <charconv>

#include "devices/network/link/cables.hpp"
#include "devices/network/link/link_activity.hpp"
#include "devices/network/link/links.hpp"
#include "devices/network/link/queued_link.hpp"
#include "vmm/core/device_context.hpp"

namespace viv {
namespace {

/// A cable with nothing at its end.
class NoLink final : public QueuedLink {
  public:
    explicit NoLink(const LinkSetup& setup) : QueuedLink(setup, Carrier::none) {}
    [[nodiscard]] std::string description() const override { return {}; }

  private:
    void transmit(std::span<const uint8_t> /*frame*/, const FrameOffload& /*offload*/) override {}
};

Result<std::unique_ptr<QueuedLink>> open_kind(std::string_view spec, const LinkOptions& options,
                                              const LinkSetup& setup) {
    if (options.kind == "user") return open_user_link(options, setup);
    if (!setup.published.empty()) {
        return fail_usage(fmt::format("--publish is for the network 'user', not for '{}'", spec));
    }
    if (options.kind == "switch") return open_switch_link(options, setup);
    if (options.kind == "tap") return open_tap_link(options, setup);
    if (options.kind == "passt") return open_passt_link(options, setup);
    TRY(options.only({}));
    if (options.kind == "none") return std::make_unique<NoLink>(setup);
    if (options.kind == "loopback") return make_loopback_link(setup);
    return fail_usage(
        fmt::format("there is no network '{}': use none, user, switch:NAME, tap:NAME, passt or loopback", spec));
}

Result<std::unique_ptr<QueuedLink>> open_link(std::string_view spec, const LinkSetup& setup) {
    LinkOptions options = TRY(parse_link_options(spec));
    const Impairment::Choice impairment = TRY(Impairment::extract(options));
    const std::string state = options.value("link", "up");
    if (state != "up" && state != "down")
        return fail_usage(fmt::format("network '{}': link is up or down, not '{}'", spec, state));
    options.values.erase("link");
    auto link = TRY(open_kind(spec, options, setup));
    if (state == "down") link->begin_down();
    if (!impairment.nothing()) link->impair(impairment, setup.clock);
    return link;
}

}  // namespace

Result<MacAddress> parse_mac_address(std::string_view text) {
    const auto refuse = [text](const char* why) {
        return fail_usage(fmt::format("'{}' is not the address of a NIC: {} (try 52:54:00:12:34:56)", text, why));
    };
    MacAddress address{};
    constexpr size_t length = 17;
    if (text.size() != length) return refuse("it is not six bytes with colons between them");
    for (size_t i = 0; i < address.size(); ++i) {
        const char* first = text.data() + 3 * i;
        const auto [end, error] = std::from_chars(first, first + 2, address[i], 16);
        if (error != std::errc() || end != first + 2 || (i < 5 && *end != ':')) {
            return refuse("it is not six bytes with colons between them");
        }
    }
    if (address[0] & 1) return refuse("the lowest bit of its first byte says that it is a group's");
    return address;
}

std::string to_string(const MacAddress& address) {
    return fmt::format("{:02x}:{:02x}:{:02x}:{:02x}:{:02x}:{:02x}", address[0], address[1], address[2], address[3],
                       address[4], address[5]);
}

Result<std::unique_ptr<NetworkLink>> open_network_link(std::string_view spec, LinkSetup setup) {
    auto link = TRY(open_link(spec, setup));
    if (!setup.record.empty()) link->record_to(TRY(PcapFile::open(setup.record, setup.clock)));
    return link;
}

Result<NetworkPort> open_network_port(const DeviceContext& context) {
    const auto* bytes = context.node.property("local-mac-address");
    NetworkPort port;
    if (!bytes || bytes->size() != port.mac.size()) {
        return context.refuse("`local-mac-address` is not the six bytes of a NIC's address");
    }
    for (size_t i = 0; i < port.mac.size(); ++i) port.mac[i] = std::to_integer<uint8_t>((*bytes)[i]);
    if (port.mac[0] & 1) return context.refuse("`local-mac-address` is the address of a group");
    auto link =
        open_network_link(context.node.string("viv,link").value_or("none"),
                          {context.loop, context.clock, port.mac, context.node.strings("viv,publish"),
                           context.services.find<LinkActivity>(), context.node.string("viv,pcap").value_or("")});
    if (!link) return add_context(link.error(), context.path);
    port.link = std::move(*link);
    if (Cables* cables = context.services.find<Cables>();
        cables && !cables->add(*port.link, context.node.u32("viv,nic")))
        return context.refuse("`viv,nic` is the number of another NIC, too");
    return port;
}

}  // namespace viv
