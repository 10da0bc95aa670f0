#include "vmm/cli/network_setup.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <utility>

#include "devices/network/link/link_options.hpp"
#include "vmm/boards/board_edit.hpp"

namespace viv::cli {
namespace {

/// A number from 0 to `most`, hexadecimal with 0x before it.
Result<uint32_t> parse_place(const char* key, std::string_view text, uint32_t most) {
    const bool hexadecimal = text.starts_with("0x");
    const std::string_view digits = text.substr(hexadecimal ? 2 : 0);
    uint32_t number = 0;
    const auto [end, error] =
        std::from_chars(digits.data(), digits.data() + digits.size(), number, hexadecimal ? 16 : 10);
    if (error != std::errc() || end != digits.data() + digits.size() || number > most)
        return fail_usage(fmt::format("--net: {} is a number up to {:#x}, not '{}'", key, most, text));
    return number;
}

/// What --net says of the NIC; the rest of it is for the link.
Result<NicChoice> parse_network(const std::string& text) {
    LinkOptions options = TRY(parse_link_options(text));
    NicChoice nic;
    if (const auto model = options.values.extract("model"); !model.empty()) nic.model = model.mapped();
    if (const auto mac = options.values.extract("mac"); !mac.empty()) nic.mac = mac.mapped();
    if (const auto port = options.values.extract("port"); !port.empty())
        nic.port = static_cast<uint16_t>(TRY(parse_place("port", port.mapped(), 0xFFE0)));
    if (const auto irq = options.values.extract("irq"); !irq.empty())
        nic.irq = TRY(parse_place("irq", irq.mapped(), 15));
    if (const auto mtu = options.values.extract("mtu"); !mtu.empty())
        nic.mtu = TRY(parse_place("mtu", mtu.mapped(), 0xFFFF));
    if (const auto queues = options.values.extract("queues"); !queues.empty())
        nic.queues = TRY(parse_place("queues", queues.mapped(), 8));
    if (const auto rom = options.values.extract("rom"); !rom.empty()) nic.rom = rom.mapped();
    nic.split = TRY(options.flag("split"));
    options.values.erase("split");
    nic.link = options.spec();
    return nic;
}

}  // namespace

Result<void> add_networks(TreeNode& board, const NetworkOptions& options) {
    std::vector<NicChoice> nics;
    for (const std::string& text : options.nics) {
        if (text == "none") {
            if (options.nics.size() > 1) return fail_usage("--net none excludes other networks");
            continue;
        }
        nics.push_back(TRY(parse_network(text)));
    }
    std::vector<std::string> published = options.published;
    if (options.ssh) published.emplace_back("free:22");
    if (options.nics.empty() && (options.by_default || !published.empty())) nics.emplace_back().link = "user";
    if (!published.empty()) {
        const auto user = std::ranges::find_if(nics, [](const NicChoice& nic) { return nic.link.starts_with("user"); });
        if (user == nics.end()) return fail_usage("--publish and --ssh are of no use without --net user");
        user->published = std::move(published);
    }
    if (options.records.size() > nics.size()) {
        return fail_usage(fmt::format("--pcap {}: there are {} NICs, and each --pcap is for one of them",
                                      options.records[nics.size()], nics.size()));
    }
    for (size_t i = 0; i < options.records.size(); ++i) nics[i].record = options.records[i];
    for (const NicChoice& nic : nics) TRY(attach_nic(board, nic));
    return {};
}

}  // namespace viv::cli
