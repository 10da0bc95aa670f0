#include "vmm/cli/machine_setup.hpp"

#include <string>
#include <vector>

#include "vmm/core/catch.hpp"

using namespace viv;
using namespace viv::cli;

namespace {

/// The first virtio device of the machine that these shares and devices make; an error's text as its name.
TreeNode first_device(const std::vector<std::string>& shares, const std::vector<std::string>& virtio = {}) {
    MachineOptions options;
    options.shares = shares;
    options.virtio = virtio;
    auto board = make_board(options);
    if (!board) return {board.error().message, {}, {}};
    for (const TreeNode& node : board->child("pci")->children) {
        if (node.has("viv,function")) return node;
    }
    return {"none", {}, {}};
}
bool is_refused(const TreeNode& node, const std::string& words) {
    return node.name.find(words) != std::string::npos;
}

}  // namespace

TEST_CASE("A shared folder has a tag, and may be for reading only") {
    TreeNode share = first_device({"some/folder"});
    CHECK(share.string("viv,function") == "9p");
    CHECK(share.string("viv,folder") == "some/folder");
    CHECK(share.string("viv,tag") == "share");
    CHECK_FALSE(share.has("viv,read-only"));
    share = first_device({"/a/b:tools,ro"});
    CHECK(share.string("viv,folder") == "/a/b");
    CHECK(share.string("viv,tag") == "tools");
    CHECK(share.has("viv,read-only"));
    // Only behind the last name there is a tag.
    share = first_device({"/a:b/c"});
    CHECK(share.string("viv,folder") == "/a:b/c");
    CHECK(is_refused(first_device({"a:"}), "DIR:TAG"));
    CHECK(is_refused(first_device({":x"}), "DIR:TAG"));
    CHECK(is_refused(first_device({""}), "DIR:TAG"));
    CHECK(is_refused(first_device({"a", "b"}), "two folders have the tag 'share'"));
    CHECK(first_device({"a", "b:other"}).string("viv,folder") == "a");
}

TEST_CASE("What is behind a disk's file says how it is used") {
    const auto disk = [](const std::string& text) -> TreeNode {
        MachineOptions options;
        options.disks = {text};
        auto board = make_board(options);
        if (!board) return {board.error().message, {}, {}};
        for (const TreeNode& node : board->child("pci")->children) {
            if (node.has("viv,image")) return node;
        }
        return {"none", {}, {}};
    };
    const TreeNode node = disk("a,b.img,format=raw,cache=unsafe,bus=virtio");
    CHECK(node.string("viv,image") == "a,b.img");
    CHECK(node.string("viv,format") == "raw");
    CHECK(node.string("viv,cache") == "unsafe");
    CHECK_FALSE(disk("a.img,bus=nvme").has("viv,format"));
    CHECK(disk("a.img,snapshot=one,format=qcow2,bus=virtio").string("viv,image") == "a.img,snapshot=one");
    CHECK(is_refused(disk("a.img,format=vmdk,bus=virtio"), "raw or qcow2, not 'vmdk'"));
}

TEST_CASE("A virtio disk may be for reading only, and a virtio console has a size") {
    const TreeNode disk = first_device({}, {"block,read-only,image=a,b.img"});
    CHECK(disk.has("viv,read-only"));
    CHECK(disk.string("viv,image") == "a,b.img");
    CHECK_FALSE(first_device({}, {"block,image=a.img"}).has("viv,read-only"));
    CHECK(is_refused(first_device({}, {"entropy,read-only"}), "not a choice"));
    const TreeNode console = first_device({}, {"console,chardev=null,columns=100,rows=40"});
    CHECK(console.u32("viv,columns") == 100u);
    CHECK(console.u32("viv,rows") == 40u);
    CHECK(is_refused(first_device({}, {"console,rows=many"}), "not a number of lines"));
}

TEST_CASE("A balloon's size and interval are numbers") {
    const TreeNode balloon = first_device({}, {"balloon,size=64M,statistics=10"});
    CHECK(balloon.u32("viv,pages") == 16'384u);
    CHECK(balloon.u32("viv,statistics") == 10u);
    CHECK_FALSE(balloon.has("viv,size"));
    CHECK_FALSE(first_device({}, {"balloon"}).has("viv,pages"));
    CHECK(is_refused(first_device({}, {"balloon,statistics=x"}), "not a number of seconds"));
    CHECK(is_refused(first_device({}, {"balloon,statistics="}), "not a number of seconds"));
    CHECK(is_refused(first_device({}, {"balloon,size=much"}), "much"));
    CHECK(is_refused(first_device({}, {"balloon,colour=red"}), "not a choice"));
    CHECK(first_device({}, {"tablet,split"}).has("viv,split"));
    CHECK(is_refused(first_device({}, {"teapot"}), "there is no device 'teapot'"));
}

TEST_CASE("A guest's sockets have a number and a path of the host") {
    const auto device = [](const std::string& text) {
        MachineOptions options;
        options.vsock = text;
        auto board = make_board(options);
        if (!board) return TreeNode{board.error().message, {}, {}};
        for (const TreeNode& node : board->child("pci")->children) {
            if (node.string("viv,function") == "socket") return node;
        }
        return TreeNode{"none", {}, {}};
    };
    CHECK(device("socket=some/path").u32("viv,cid") == 3u);
    const TreeNode socket = device("cid=42,socket=/a,b/c");
    CHECK(socket.u32("viv,cid") == 42u);
    CHECK(socket.string("viv,socket") == "/a,b/c");
    for (const char* wrong : {"cid=2,socket=x", "cid=4294967295,socket=x", "cid=,socket=x", "cid=3x,socket=x"})
        CHECK(is_refused(device(wrong), "no number for a guest"));
    CHECK(is_refused(device("cid=3"), "wants a path"));
    CHECK(is_refused(device("socket="), "wants a path"));
    CHECK(is_refused(device("port=3,socket=x"), "not a choice"));
}
