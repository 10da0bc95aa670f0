#include "vmm/cli/network_setup.hpp"

#include "vmm/boards/board.hpp"
#include "vmm/core/catch.hpp"

using namespace viv;
using namespace viv::cli;

namespace {

using Strings = std::vector<std::string>;

TreeNode board_of(const NetworkOptions& options) {
    TreeNode board = default_board();
    const auto added = add_networks(board, options);
    if (!added) FAIL(added.error().message);
    return board;
}

std::string refusal(const NetworkOptions& options) {
    TreeNode board = default_board();
    const auto added = add_networks(board, options);
    REQUIRE_FALSE(added);
    CHECK(added.error().kind == ErrorKind::usage);
    return added.error().message;
}

size_t nics_of(const TreeNode& board) {
    size_t count = 0;
    for (const TreeNode& bus : board.children) {
        for (const TreeNode& node : bus.children) count += node.has("viv,link");
    }
    return count;
}

bool contains(const std::string& text, std::string_view part) {
    return text.find(part) != std::string::npos;
}

NetworkOptions after(Strings words) {
    words.insert(words.begin(), "run");
    const auto command = parse_command_line(words);
    REQUIRE(command);
    return command->run.machine.network;
}

}  // namespace

TEST_CASE("A machine is online by default, unless its board or its clock says otherwise") {
    const TreeNode board = board_of(after({"x.img"}));
    CHECK(nics_of(board) == 1);
    REQUIRE(board.find("/pci/ethernet@3"));
    CHECK(board.find("/pci/ethernet@3")->string("compatible") == "intel,82540em");
    CHECK(board.find("/pci/ethernet@3")->string("viv,link") == "user");
    CHECK(nics_of(board_of(after({"x.img", "--net", "none"}))) == 0);
    CHECK(nics_of(board_of(after({"x.img", "--clock", "virtual"}))) == 0);
    CHECK(nics_of(board_of(after({"x.img", "--clock", "virtual", "--net", "user"}))) == 1);
    CHECK(nics_of(board_of(after({"--board", "my.dts"}))) == 0);
    CHECK(nics_of(board_of(after({"--net", "user,model=ne2k_pci"}))) == 1);
    CHECK(nics_of(board_of(after({"--net", "user", "--net", "loopback"}))) == 2);
}

TEST_CASE("Published ports go to the first user link, which they bring along") {
    const TreeNode alone = board_of(after({"--clock", "virtual", "--publish", "8080:80", "--ssh"}));
    CHECK(nics_of(alone) == 1);
    CHECK(alone.find("/pci/ethernet@3")->strings("viv,publish") == Strings{"8080:80", "free:22"});
    const TreeNode second = board_of({.nics = {"loopback", "user,model=virtio"}, .ssh = true});
    CHECK_FALSE(second.find("/pci/ethernet@3")->has("viv,publish"));
    CHECK(second.find("/pci/virtio@4")->strings("viv,publish") == Strings{"free:22"});
    CHECK(contains(refusal({.nics = {"none"}, .ssh = true}), "--ssh"));
    CHECK(contains(refusal({.nics = {"loopback"}, .published = {"1:2"}}), "--publish"));
}

TEST_CASE("Each record of frames is of one NIC") {
    const TreeNode board = board_of({.nics = {"user", "loopback"}, .records = {"a.pcap", "b.pcap"}});
    CHECK(board.find("/pci/ethernet@3")->string("viv,pcap") == "a.pcap");
    CHECK(board.find("/pci/ethernet@4")->string("viv,pcap") == "b.pcap");
    CHECK(contains(refusal({.nics = {"user"}, .records = {"a.pcap", "b.pcap"}}), "b.pcap"));
    CHECK(contains(refusal({.nics = {"none"}, .records = {"a.pcap"}}), "a.pcap"));
}

TEST_CASE("A PCI card takes a ROM, an ISA card none") {
    const TreeNode board = board_of({.nics = {"user,rom=a,,b.rom,restrict=on", "user,model=virtio,rom=c.rom"}});
    CHECK(board.find("/pci/ethernet@3")->string("viv,rom") == "a,b.rom");
    CHECK(board.find("/pci/ethernet@3")->string("viv,link") == "user,restrict=on");
    CHECK(board.find("/pci/virtio@4")->string("viv,rom") == "c.rom");
}

TEST_CASE("What --net says of the NIC is taken from what is for the link") {
    const TreeNode board =
        board_of({.nics = {"user,model=ne2k_isa,port=0x320,irq=12,mac=02:00:00:00:00:07,restrict=on"}});
    const TreeNode* card = board.find("/isa/ethernet@320");
    REQUIRE(card);
    CHECK(card->u32("interrupts") == 12u);
    CHECK(card->string("viv,link") == "user,restrict=on");
    CHECK(std::to_integer<int>(card->property("local-mac-address")->back()) == 7);
    const TreeNode other = board_of({.nics = {"loopback,model=virtio,queues=4"}});
    CHECK(other.find("/pci/virtio@3")->u32("viv,queues") == 4u);
    for (const auto& [wrong, why] : {std::pair{"user,irq=16", "irq"},
                                     {"user,model=wifi", "wifi"},
                                     {"user,model=e1000,port=0x300", "port"},
                                     {"user,mtu=100", "mtu"},
                                     {"user,queues=2", "queues"},
                                     {"user,model=virtio,queues=9", "queues"},
                                     {"user,model=ne2k_isa,rom=pxe.rom", "no PCI card"},
                                     {"user,model=virtio,split=maybe", "maybe"},
                                     {"user,mac=01:00:00:00:00:07", "group"}}) {
        CHECK(contains(refusal({.nics = {wrong}}), why));
    }
    CHECK(contains(refusal({.nics = {"none", "user"}}), "none"));
}
