#include "vmm/cli/network_setup.hpp"

#include <algorithm>

#include "devices/network/link/link_options.hpp"
#include "vmm/boards/board_edit.hpp"

namespace viv::cli {
namespace {

/// What --net says of the NIC; the rest of it is for the link.
Result<NicChoice> parse_network(const std::string& text) {
    LinkOptions options = TRY(parse_link_options(text));
    NicChoice nic;
    if (const auto model = options.values.extract("model"); !model.empty()) nic.model = model.mapped();
    if (const auto mac = options.values.extract("mac"); !mac.empty()) nic.mac = mac.mapped();
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
    if (networks.empty() && !published.empty()) nics.push_back({.link = "user", .published = {}, .mac = {}});
    if (!published.empty()) {
        const auto user = std::ranges::find_if(nics, [](const NicChoice& nic) { return nic.link.starts_with("user"); });
        if (user == nics.end()) return fail_usage("--publish is of no use without --net user");
        user->published = published;
    }
    for (const NicChoice& nic : nics) TRY(attach_nic(board, nic));
    return {};
}

}  // namespace viv::cli
