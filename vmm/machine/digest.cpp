#include <fmt/format.h>
#include <openssl/evp.h>

#include <algorithm>
#include <memory>

#include "vmm/machine/machine.hpp"

namespace viv {

Result<TreeNode> Machine::state() {
    end_bulk_work();
    TreeNode root;
    for (size_t i = 0; i < cpus_.size(); ++i) {
        root.children.push_back(write_state(fmt::format("cpu@{:x}", i), TRY(cpus_[i]->state())));
    }
    for (BuiltDevice& built : devices_) {
        TreeNode node = built.device->save();
        // A path is no name of a node; its slashes become what no node name has.
        node.name = built.path;
        std::ranges::replace(node.name, '/', '!');
        root.children.push_back(std::move(node));
    }
    return root;
}

Result<std::string> Machine::digest() {
    const std::vector<std::byte> tree = to_fdt(TRY(state()));
    const std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context(EVP_MD_CTX_new(), EVP_MD_CTX_free);
    VIV_ASSERT(context && EVP_DigestInit_ex(context.get(), EVP_sha256(), nullptr) == 1);
    VIV_ASSERT(EVP_DigestUpdate(context.get(), tree.data(), tree.size()) == 1);
    for (const GuestMemory::Region& region : memory_.regions()) {
        VIV_ASSERT(EVP_DigestUpdate(context.get(), region.host, region.size) == 1);
    }
    unsigned char bytes[EVP_MAX_MD_SIZE];
    unsigned size = 0;
    VIV_ASSERT(EVP_DigestFinal_ex(context.get(), bytes, &size) == 1);
    std::string text;
    for (unsigned i = 0; i < size; ++i) text += fmt::format("{:02x}", bytes[i]);
    return text;
}

}  // namespace viv
