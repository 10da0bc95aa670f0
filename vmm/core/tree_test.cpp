#include "vmm/core/tree.hpp"

#include "vmm/core/catch.hpp"

using namespace viv;

namespace {
TreeNode board() {
    TreeNode root;
    root.set_string("model", "pc \"classic\"");
    TreeNode& isa = root.ensure_child("isa");
    TreeNode& serial = isa.ensure_child("serial@3f8");
    serial.set_cells("reg", std::array<uint32_t, 3>{1, 0x3F8, 8});
    serial.set_flag("viv,quiet");
    isa.ensure_child("serial@2f8");
    isa.ensure_child("rtc@70").set_u64("base", 0x1122334455667788);
    return root;
}
}  // namespace

TEST_CASE("A tree is flattened and read back equal, also a large one") {
    TreeNode root = board();
    CHECK(from_fdt(to_fdt(root)).value() == root);
    for (int i = 0; i < 500; ++i)
        root.ensure_child("node@" + std::to_string(i)).set("blob", std::vector<std::byte>(333));
    CHECK(from_fdt(to_fdt(root)).value() == root);
}

TEST_CASE("Nodes are found by path, with or without the unit address when it is clear") {
    const TreeNode root = board();
    REQUIRE(root.find("/isa/serial@3f8"));
    CHECK(root.find("/isa/serial@3f8")->cells("reg") == std::vector<uint32_t>{1, 0x3F8, 8});
    CHECK(root.find("/isa/rtc")->u64("base") == 0x1122334455667788);
    CHECK(root.find("/isa/serial") == nullptr);
    CHECK(root.find("/isa/nothing/below") == nullptr);
    CHECK(root.find("/") == &root);
}

TEST_CASE("Properties are replaced and erased; missing ones answer nothing") {
    TreeNode node;
    node.set_u32("a", 1);
    node.set_u32("a", 2);
    CHECK(node.u32("a") == 2u);
    CHECK(node.properties.size() == 1);
    node.erase("a");
    CHECK_FALSE(node.u32("a"));
    CHECK_FALSE(node.u64("a"));
    CHECK_FALSE(node.string("a"));
    CHECK(node.cells("a").empty());
}

TEST_CASE("A damaged blob is refused") {
    auto blob = to_fdt(board());
    CHECK_FALSE(from_fdt(std::span(blob).first(10)));
    CHECK_FALSE(from_fdt(std::span(blob).first(blob.size() / 2)));
    blob[0] = std::byte{0};
    CHECK_FALSE(from_fdt(blob));
}

TEST_CASE("The source form names every node and quotes strings") {
    const std::string text = to_dts(board());
    CHECK(text.find("model = \"pc \\\"classic\\\"\";") != std::string::npos);
    CHECK(text.find("serial@3f8 {") != std::string::npos);
    CHECK(text.find("reg = <0x1 0x3f8 0x8>;") != std::string::npos);
    CHECK(text.find("viv,quiet;") != std::string::npos);
}
