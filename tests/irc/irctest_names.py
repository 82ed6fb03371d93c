"""Which tests of irctest (commit b00c039) the door must pass, and which fail by design.

The design: docs/irc.md, "What is different from an IRC network".
"""

from __future__ import annotations

# What is run: no tests of one server alone, of old habits, or stricter than the specifications.
MARKS = "not Ergo and not Sable and not deprecated and not strict"

# File -> names of tests, whatever class they are in.
MUST_PASS: dict[str, list[str]] = {
    "away.py": [
        "testAway",
        "testAwayAck",
        "testAwayPrivmsg",
        "testAwayWhois",
        "testAwayUserhost",
        "testAwayEmptyMessage",
    ],
    "buffering.py": [
        "testNoTags[whole-no colon]",
        "testNoTags[charperchar-no colon]",
        "testNoTags[byteperbyte-no colon]",
        "testNoTags[whole-colon]",
        "testNoTags[charperchar-colon]",
        "testNoTags[byteperbyte-colon]",
    ],
    "cap.py": [
        "testInvalidCapSubcommand",
        "testNoReq",
        "testReqOne",
        "testReqTwo",
        "testReqOneThenOne",
        "testReqPostRegistration",
        "testReqUnavailable",
        "testNakExactString",
        "testNakWhole",
        "testCapRemovalByClient",
        "testIrc301CapLs",
        "testEmptyCapList",
        "testNoMultiline301Response",
    ],
    "chathistory.py": [
        "testChathistory[LATEST]",
        "testChathistory[BEFORE]",
        "testChathistory[AFTER]",
        "testChathistory[BETWEEN]",
        "testChathistory[AROUND]",
        "testChathistoryNoEventPlayback",
    ],
    "chmodes/operator.py": [
        "testChannelOperatorModeSenderPrivsNeeded",
        "testChannelOperatorModeChannelDoesNotExist",
        "testChannelOperatorModeChannelAndTargetDoNotExist",
    ],
    "connection_registration.py": [
        "testPassBeforeNickuser",
        "testNoPassword",
        "testWrongPassword",
        "testConnectionRegistration",
        "testQuitDisconnects",
        "testQuitErrors",
        "testNickCollision",
        "testEarlyNickCollision",
        "testEmptyRealname",
        "testNonutf8Realname",
        "testNonutf8Username",
    ],
    "echo_message.py": [
        "testEchoMessage[PRIVMSG-False-False]",
        "testEchoMessage[PRIVMSG-True-True]",
        "testEchoMessage[PRIVMSG-False-True]",
    ],
    "extended_join.py": [
        "testNotLoggedIn",
    ],
    "invite.py": [
        "testInviteNoNotificationForOtherMembers",
    ],
    "isupport.py": [
        "testParameters",
        "testPrefix",
        "testTargmax",
    ],
    "join.py": [
        "testJoinNamreply",
        "testJoinTwice",
        "testJoinPartiallyInvalid",
    ],
    "kick.py": [
        "testKickNonexistentChannel",
    ],
    "links.py": [
        "testLinksSingleServer",
        "testLinksWithServices",
    ],
    "list.py": [
        "testListEmpty",
        "testListOne",
        "testListNonexistent",
    ],
    "lusers.py": [
        "testLusers",
        "testLusersRfc2812",
    ],
    "messages.py": [
        "testPrivmsg",
        "testPrivmsgNonexistentChannel",
        "testPrivmsgToUser",
        "testPrivmsgNonexistentUser",
        "testEmptyPrivmsg",
        "testNoticeNonexistentChannel",
        "testLineTooLong",
    ],
    "names.py": [
        "testNamesInvalidChannel",
        "testNamesNonexistingChannel",
    ],
    "oper.py": [
        "testOperFailure",
        "testOperNoPassword",
        "testOperNonexistentUser",
    ],
    "part.py": [
        "testPartNotInEmptyChannel",
        "testPartNotInNonEmptyChannel",
        "testBasicPart",
    ],
    "pingpong.py": [
        "testPing",
        "testPingNoToken",
        "testPingEmptyToken",
    ],
    "regressions.py": [
        "testFailedNickChange",
        "testCaseChanges",
        "testStarNick",
        "testEmptyNick",
        "testNickRelease",
        "testNickReleaseQuit",
    ],
    "time.py": [
        "testTime",
    ],
    "topic.py": [
        "testTopicNonexistentChannel",
    ],
    "utf8.py": [
        "testUtf8Validation",
        "testNonutf8Realname",
        "testNonutf8Username",
    ],
    "wallops.py": [
        "testWallopsPrivileges",
    ],
    "who.py": [
        "testWhoNick[exact]",
        "testWhoNick[casefolded]",
        "testWhoNickAway[exact]",
        "testWhoNickAway[casefolded]",
        "testWhoMultiChan",
        "testWhoNickNotExists",
    ],
    "whois.py": [
        "testWhoisUser[no-target]",
        "testWhoisUser[target_server]",
        "testWhoisUser[target-nick]",
        "testWhoisMissingUser",
        "testWhoisNumerics[normal]",
        "testWhoisNumerics[away]",
    ],
    "whowas.py": [
        "testWhowasEnd",
        "testWhowasNoParamModern",
        "testWhowasNoSuchNick",
    ],
}

# (regular expression for FILE::CLASS::TEST, why it cannot pass)
FAIL_BY_DESIGN: list[tuple[str, str]] = [
    (r"^chmodes/", "there are no channel operators and no channel modes"),
    (r"^(kick|oper|kill|wallops|info|stats|help)\.py", "there are no operators"),
    (r"^(names|multi_prefix)\.py", "nobody has a prefix, and channels are made by joining a room"),
    (r"^who\.py", "masks, flags of operators and invisibility are not known"),
    (r"^topic\.py", "rooms have no topic"),
    (r"^join\.py::.*Key", "a key for an open room is refused: its giver wants no open talk"),
    (r"^invite\.py", "there are no invitations"),
    (r"(Notice|NOTICE)", "in a room a NOTICE is a message like any other"),
    (r"^(part|quit)\.py", "a goodbye has no reason"),
    (r"^whowas\.py", "nobody is remembered who has gone"),
    (r"^whois\.py", "there are no operators"),
    (r"^lusers\.py", "no peaks are counted"),
    (r"^list\.py", "LIST takes names alone"),
    (
        r"^chathistory\.py::.*(DMs\[\w+\]|testChathistoryTargets|ToSelf)$",
        "private messages are no history",
    ),
]
