#include "vmm/cli/image_command.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <utility>

#include "devices/storage/image/image_chain.hpp"
#include "devices/storage/image/qcow2_check.hpp"
#include "vmm/cli/help.hpp"
#include "vmm/cli/image_commands.hpp"
#include "vmm/cli/options.hpp"

namespace viv::cli {
namespace {

namespace json = boost::json;
using qcow2::Header;

json::object describe(const std::string& path, DiskImage& image) {
    json::object about{{"file", path}, {"virtual-size", image.size()}};
    struct stat info {};
    if (stat(split_snapshot(path).first.c_str(), &info) == 0)
        about["file-size"] = static_cast<uint64_t>(info.st_blocks) * 512;
    const auto* qcow2_image = dynamic_cast<Qcow2Image*>(&image);
    about["format"] = qcow2_image ? "qcow2" : "raw";
    if (!qcow2_image) return about;
    const Header& header = qcow2_image->header();
    about["version"] = header.version;
    about["cluster-size"] = header.cluster_size();
    about["compression"] = header.compression == qcow2::Compression::zstd ? "zstd" : "zlib";
    about["refcount-bits"] = 1U << header.refcount_order;
    about["lazy-refcounts"] = header.lazy_refcounts();
    about["extended-l2"] = header.extended_l2();
    about["dirty"] = (header.incompatible & qcow2::incompatible_dirty) != 0;
    about["corrupt"] = (header.incompatible & qcow2::incompatible_corrupt) != 0;
    if (header.has_backing()) {
        about["backing-file"] = header.backing_file;
        if (!header.backing_format.empty()) about["backing-format"] = header.backing_format;
    }
    json::array snapshots;
    for (const qcow2::Snapshot& snapshot : qcow2_image->snapshots()) {
        snapshots.push_back({{"id", snapshot.id},
                             {"name", snapshot.name},
                             {"seconds", snapshot.seconds},
                             {"vm-state-size", snapshot.vm_state_size}});
    }
    if (!snapshots.empty()) about["snapshots"] = std::move(snapshots);
    return about;
}

/// Unix time in words.
std::string date(int64_t seconds) {
    const time_t time = seconds;
    struct tm parts {};
    char text[32] = "";
    if (gmtime_r(&time, &parts)) std::strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S UTC", &parts);
    return text;
}

void print_line(std::string_view key, std::string value) {
    // Names in an image may hold anything.
    std::ranges::replace_if(
        value, [](char c) { return static_cast<unsigned char>(c) < ' ' || c == 0x7F; }, '?');
    print_text(fmt::format("{:16} {}\n", std::string(key) + ":", value));
}

Result<int> info(ImageOptions& options) {
    if (options.files.size() != 1) return fail_usage("viv image info FILE; see viv image --help");
    json::array all;
    std::string path = options.files[0];
    std::optional<ImageFormat> format = TRY(format_of(options.source_format, "--source-format"));
    constexpr int most = 64;
    for (int depth = 0; depth < most && !path.empty(); ++depth) {
        auto [file, snapshot] = split_snapshot(path);
        ImageRequest request{file, ImageAccess::read_only, format, snapshot, false, {}};
        const auto image = TRY(open_image(std::move(request)));
        all.push_back(describe(path, *image));
        const auto* top = dynamic_cast<Qcow2Image*>(image.get());
        if (!options.chain || !top || !top->header().has_backing()) break;
        path = TRY(backing_path(file, top->header().backing_file));
        format = top->header().backing_format == "qcow2" ? ImageFormat::qcow2 : ImageFormat::raw;
    }
    if (options.json) {
        print_text((options.chain ? json::serialize(all) : json::serialize(all[0])) + "\n");
        return 0;
    }
    for (const json::value& one : all) {
        for (const auto& [key, value] : one.as_object()) {
            if (key != "snapshots") {
                print_line(key, value.is_string() ? std::string(value.as_string()) : json::serialize(value));
                continue;
            }
            for (const json::value& one_of_them : value.as_array()) {
                const auto& snapshot = one_of_them.as_object();
                print_line("snapshot", fmt::format("{} {} ({})", snapshot.at("id").as_string().c_str(),
                                                   snapshot.at("name").as_string().c_str(),
                                                   date(snapshot.at("seconds").to_number<int64_t>())));
            }
        }
        if (all.size() > 1) print_text("\n");
    }
    return 0;
}

Result<int> check(ImageOptions& options) {
    if (options.files.size() != 1) return fail_usage("viv image check FILE; see viv image --help");
    Repair repair = Repair::none;
    if (options.repair == "leaks") repair = Repair::leaks;
    if (options.repair == "all") repair = Repair::all;
    if (repair == Repair::none && options.repair != "none") return fail_usage("--repair: leaks or all");
    const std::string& path = options.files[0];
    const auto image = TRY(open_qcow2_for_check(path, repair));
    Result<CheckReport> report;
    {
        ImageBar bar("checking");
        report = Qcow2Checker::check(*image, repair, [&bar](uint64_t done, uint64_t total) { bar.show(done, total); });
    }
    if (!report) return add_context(report.error(), fmt::format("cannot check '{}'", path));
    if (options.json) {
        json::array messages;
        for (const std::string& message : report->messages) messages.push_back(json::value(message));
        print_text(json::serialize(json::object{{"file", path},
                                                {"errors", report->errors},
                                                {"leaks", report->leaks},
                                                {"repaired-errors", report->repaired_errors},
                                                {"repaired-leaks", report->repaired_leaks},
                                                {"clusters", report->clusters},
                                                {"allocated", report->allocated},
                                                {"compressed", report->compressed},
                                                {"end", report->file_end},
                                                {"messages", messages}}) +
                   "\n");
    } else {
        for (const std::string& message : report->messages) print_text(message + "\n");
        if (report->repaired_errors + report->repaired_leaks != 0) {
            print_text(
                fmt::format("repaired {} errors and {} leaks\n", report->repaired_errors, report->repaired_leaks));
        }
        print_text(report->clean()
                       ? fmt::format("no errors; {} of {} clusters are in the file, {} of them compressed\n",
                                     report->allocated, report->clusters, report->compressed)
                       : fmt::format("{} errors, {} leaked clusters; viv image check --repair {} '{}'\n",
                                     report->errors, report->leaks, report->errors != 0 ? "all" : "leaks", path));
    }
    return report->clean() ? 0 : 1;
}

Result<int> compare(ImageOptions& options) {
    if (options.files.size() != 2) return fail_usage("viv image compare ONE OTHER; see viv image --help");
    const auto one = TRY(open_source(options.files[0], options.source_format));
    const auto other = TRY(open_source(options.files[1], options.format));
    const uint64_t size = std::max(one->size(), other->size());
    std::vector<std::byte> left(1 << 20);
    std::vector<std::byte> right(left.size());
    const auto fetch = [](DiskImage& image, uint64_t at, std::span<std::byte> out) {
        const uint64_t there = at < image.size() ? std::min<uint64_t>(out.size(), image.size() - at) : 0;
        std::ranges::fill(out.subspan(there), std::byte{0});
        return image.read(std::min(at, image.size()), out.first(there)) == DiskStatus::ok;
    };
    std::optional<uint64_t> difference;
    {
        ImageBar bar("comparing");
        for (uint64_t at = 0; at < size && !difference; at += left.size()) {
            bar.show(at, size);
            const uint64_t length = std::min<uint64_t>(left.size(), size - at);
            const auto a = std::span(left).first(length);
            const auto b = std::span(right).first(length);
            if (!fetch(*one, at, a) || !fetch(*other, at, b))
                return fail(fmt::format("cannot read the images at byte {}", at));
            const auto differs = std::ranges::mismatch(a, b);
            if (differs.in1 != a.end()) difference = at + static_cast<uint64_t>(differs.in1 - a.begin());
        }
    }
    if (options.json) {
        json::object result{{"same", !difference}};
        if (difference) result["at"] = *difference;
        print_text(json::serialize(result) + "\n");
    } else {
        print_text(difference ? fmt::format("they differ at byte {}\n", *difference)
                              : std::string("they hold the same\n"));
    }
    return difference ? 1 : 0;
}

}  // namespace

ImageBar::ImageBar(std::string what) : what_(std::move(what)), shown_(isatty(STDERR_FILENO) != 0) {}

ImageBar::~ImageBar() {
    if (shown_ && percent_ >= 0) std::fputs("\r\033[K", stderr);
}

void ImageBar::show(uint64_t done, uint64_t total) {
    const int percent =
        total == 0 ? 100 : static_cast<int>(static_cast<double>(done) * 100 / static_cast<double>(total));
    if (!shown_ || percent == percent_) return;
    percent_ = percent;
    std::fputs(
        fmt::format("\r{} [{:<40}] {:3}%", what_, std::string(static_cast<size_t>(percent) * 40 / 100, '#'), percent)
            .c_str(),
        stderr);
}

void print_text(const std::string& text) {
    std::fputs(text.c_str(), stdout);
}

Result<std::optional<ImageFormat>> format_of(const std::string& name, const char* option) {
    if (name.empty()) return std::nullopt;
    if (name == "raw") return ImageFormat::raw;
    if (name == "qcow2") return ImageFormat::qcow2;
    return fail_usage(fmt::format("{}: there is no '{}'; use raw or qcow2", option, name));
}

Result<std::unique_ptr<DiskImage>> open_source(const std::string& path, const std::string& format) {
    auto [file, snapshot] = split_snapshot(path);
    const auto known = TRY(format_of(format, "--source-format"));
    return open_image({std::move(file), ImageAccess::read_only, known, std::move(snapshot), true, {}});
}

Result<uint64_t> whole_sectors(const std::string& text) {
    const uint64_t size = TRY(parse_size(text));
    if (size == 0 || size > uint64_t{1} << 61) return fail_usage(fmt::format("'{}' is no size of a disk", text));
    return (size + 511) / 512 * 512;
}

std::unexpected<Error> no_room(const std::string& path) {
    return fail(fmt::format("cannot write '{}': the host's disk is full or failed", path));
}

Result<int> image_command(const std::vector<std::string>& words) {
    if (words.empty() || std::ranges::count(words, "--help") != 0 || std::ranges::count(words, "-h") != 0) {
        print_text(image_help);
        return 0;
    }
    ImageOptions options;
    CLI::App app;
    app.set_help_flag();
    app.require_subcommand(1);
    struct Verb {
        const char* name;
        Result<int> (*run)(ImageOptions&);
        bool makes;
    };
    constexpr Verb verbs[] = {{"create", create_image, true},  {"info", info, false},
                              {"check", check, false},         {"convert", convert_image, true},
                              {"resize", resize_image, false}, {"compare", compare, false},
                              {"commit", commit_image, false}, {"rebase", rebase_image, false}};
    std::string known;
    for (const Verb& verb : verbs) {
        CLI::App& sub = *app.add_subcommand(verb.name);
        sub.set_help_flag();
        sub.add_option("files", options.files);
        sub.add_option("--format", options.format);
        sub.add_option("--source-format", options.source_format);
        sub.add_flag("--json", options.json);
        if (std::string_view(verb.name) == "check") sub.add_option("--repair", options.repair);
        if (std::string_view(verb.name) == "info") sub.add_flag("--chain", options.chain);
        if (std::string_view(verb.name) == "resize") sub.add_flag("--shrink", options.shrink);
        if (std::string_view(verb.name) == "convert") sub.add_flag("--compress", options.compress);
        if (std::string_view(verb.name) == "rebase") sub.add_flag("--unsafe", options.unsafe);
        if (std::string_view(verb.name) == "commit") sub.add_flag("--keep,-d", options.keep);
        if (verb.makes || std::string_view(verb.name) == "rebase") {
            sub.add_option("--backing", options.backing);
            sub.add_option("--backing-format", options.backing_format);
        }
        known += fmt::format("{}{}", known.empty() ? "" : ", ", verb.name);
        if (!verb.makes) continue;
        sub.add_option("--cluster-size", options.cluster_size);
        sub.add_option("--compression", options.compression);
        sub.add_option("--preallocation", options.preallocation);
        sub.add_option("--version", options.version);
        sub.add_option("--refcount-bits", options.refcount_bits);
        sub.add_flag("--lazy-refcounts", options.lazy_refcounts);
        sub.add_flag("--extended-l2", options.extended_l2);
        sub.add_flag("--force", options.force);
    }
    const auto verb = std::ranges::find_if(verbs, [&](const Verb& one) { return words[0] == one.name; });
    if (verb == std::end(verbs))
        return fail_usage(fmt::format("viv image has no command '{}'; it has {}", words[0], known));
    try {
        app.parse(std::vector<std::string>(words.rbegin(), words.rend()));
    } catch (const CLI::ParseError& error) {
        return fail_usage(fmt::format("viv image {}: {}; see viv image --help", words[0], error.what()));
    }
    return verb->run(options);
}

}  // namespace viv::cli
