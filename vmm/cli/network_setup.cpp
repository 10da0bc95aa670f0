#include "vmm/cli/network_setup.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

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
    nic.link = options.spec();
    return nic;
}

}  // namespace

Result<void> add_networks(TreeNode& board, const std::vector<std::string>& networks,
                          const std::vector<std::string>& published) {
    std::vector<NicChoice> nics;
    for (const std::string& text : networks) {
        if (text == "none") {
            if (networks.size() > 1) return fail_usage("--net none excludes other networks");
            continue;
        }
        nics.push_back(TRY(parse_network(text)));
    }
    if (networks.empty() && !published.empty())
        nics.push_back({.link = "user", .published = {}, .mac = {}, .port = {}, .irq = {}});
    if (!published.empty()) {
        const auto user = std::ranges::find_if(nics, [](const NicChoice& nic) { return nic.link.starts_with("user"); });
        if (user == nics.end()) return fail_usage("--publish is of no use without --net user");
        user->published = published;
    }
    for (const NicChoice& nic : nics) TRY(attach_nic(board, nic));
    return {};
}

}  // namespace viv::cli
