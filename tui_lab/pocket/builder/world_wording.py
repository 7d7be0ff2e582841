"""More ways to ask: further questions for the relations, so that a fact does not hang on one wording.

They are part of each relation's own questions (`Relation.questions`); the tables of facts stay readable
without them.
"""

from __future__ import annotations

from tui_lab.pocket.builder.relation import lines

_TEXT = {
    "capital": """
        I am flying to the capital of {s}. In which city do I land?
        {s} is a country. Which city is its capital?
        The president of {s} works in which capital?
        Which city should I write on a map as the capital of {s}?
        What is the most important city of {s}, its capital?
        Do you know which city rules over {s}?
        For the country {s}, what is the capital city called?
        Which of the world's capitals is that of {s}?""",
    "continent": """
        {s} lies on which continent?
        To which continent must I fly to reach {s}?
        I am looking for {s} on the globe. On which continent is it?
        Which part of the world holds {s}?
        Is {s} in Europe, Asia, Africa or America?
        On the map, {s} belongs to which continent?
        Where would I find {s}? Name the continent.""",
    "language": """
        What do I hear when people talk in {s}?
        My friend comes from {s}. Which language is his mother tongue?
        In which language are the newspapers of {s} written?
        What do the people of {s} speak at home?
        Which language do I need to talk to people in {s}?
        Somebody from {s} speaks which language?
        Most of the people in {s} use which language?""",
    "currency": """
        I am paying for my hotel in {s}. In which currency?
        Which money will I find in a purse in {s}?
        What do shops in {s} want as money?
        People of {s} save which money?
        If I sell my car in {s}, which money do I get?
        With what do you pay in {s}?
        Prices in {s} are given in which currency?""",
    "landmark": """
        I took a photo of {s}. In which city was I?
        Which city should I visit to see {s}?
        Tourists who want to see {s} go to which city?
        {s} is a sight of which city?
        I am standing in front of {s}. Where am I?
        Which city do you think of when you hear of {s}?
        On a trip to which city would you see {s}?""",
    "superlative": """
        I need the name of {s}. What is it?
        They say it is {s}. What is meant?
        Which one do people mean by {s}?
        My book speaks of {s}. Which one is that?
        Can you name {s} for me?
        Who or what is {s}?""",
    "opposite": """
        It is not {s} but the very opposite. What is it?
        What is the contrary of {s}?
        If you turn {s} into its opposite, what comes out?
        Which word stands against {s}?
        {s} and its opposite: what is the second word?
        Say the contrary of {s}.
        Not {s}, but what?
        The opposite of the word {s} is which word?
        What would be the reverse of {s}?""",
    "synonym": """
        I am looking for a word like {s}. Which one fits?
        Say {s} in another way.
        My text has the word {s} too often. What can I write instead?
        Which word is nearly the same as {s}?
        What is meant by {s}, in one other word?
        Find a word that can stand for {s}.
        Another way to say {s} is what?
        {s} is almost the same as which word?""",
    "past": """
        I {s} today. What did I do yesterday, in one word?
        Change {s} to the past.
        Last year I did it: which form of {s} is right?
        What form of {s} do I need for something long ago?
        How do we write {s} when it is over?
        Last week, what happens to the verb {s}?
        Tell the story in the past: what does {s} become?
        He will {s} tomorrow. What did he do a week ago?
        What is the form of {s} for a thing that happened before?""",
    "plural": """
        I have one {s}, you have many. Many what?
        How is {s} written when there is more than one?
        Two of them: not one {s}, but two what?
        Change {s} to the plural.
        Make the word {s} plural.
        What is the word for several of the kind {s}?
        A {s} and another {s} are two what?
        How would you name a lot of them, if one is a {s}?
        How do I write the word {s} for two of them?""",
    "comparative": """
        Mine is {s}, yours is even more so: what is it?
        If one is {s}, the second can be what?
        Compare with the word {s}: what do you say?
        Which form of {s} stands before the word than?
        How do we say that something is more {s}?
        Today it is {s}, tomorrow it will be even more so. What will it be?
        The word {s} changes to what when there are two to compare?
        Ben is {s}. Clara is more so. What is Clara?""",
    "female": """
        He is a {s}, she is a what?
        Change {s} to the female word.
        What is the word for a woman or a female that matches {s}?
        Which word is to her what {s} is to him?
        A {s} is he. What is she?
        If a {s} is male, what is the female called?
        The female partner word of {s} is what?""",
    "young": """
        The mother is {an}. What is her little one?
        What do we call {an} that is still very young?
        What does {an} start its life as?
        I saw a tiny {s}. What is it called?
        When {an} is small, which name does it have?
        How is the child of {an} called?
        Which word names the little {s}?
        Before it grows up, {an} is called what?""",
    "sound": """
        I hear {an} outside. What do I hear?
        Which word do we use for the voice of {an}?
        What comes out of the mouth of {an}?
        In a book for children, what does {an} say?
        How does {an} call?
        What is the voice of {an} like?
        When {an} is loud, what do you hear?
        Can you make the sound of {an}?""",
    "class": """
        What is {an}: mammal, bird, fish or something else?
        In the zoo book, {an} stands under which class?
        To which class does {an} belong?
        What sort of animal is {an}?
        {an} counts as which kind of animal?
        Animals like {an} are called what, as a class?
        A student must put {an} into a class. Which one?
        How do we class {an}?""",
    "legs": """
        Look at {an}. How many legs do you see?
        If {an} needs shoes, how many shoes?
        How many feet touch the ground when {an} stands?
        How many legs are there on {an}?
        What is the number of legs for {an}?
        {an} stands on how many legs?
        How many legs must I draw for {an}?""",
    "home": """
        {an} goes home in the evening. Where does it go?
        Which place is home for {an}?
        If I want to see {an}, where should I look?
        Where does {an} stay?
        Where does {an} have its home?
        What is the place called where {an} lives?
        In which place do you meet {an}?
        Where does {an} go to rest?""",
    "group": """
        What is the word for many of the animal {s} together?
        Not one {s} alone but a whole group: what is it called?
        The animal {s} likes company. What do we call the group?
        Which name has a group of the kind {s}?
        A lot of animals of the kind {s} form a what?
        I see a group of the animal {s}. It is a what?""",
    "colour": """
        Think of {s}. Which colour is it?
        I paint a picture with {s}. Which colour do I need?
        What is the colour that {s} usually has?
        Which colour comes to mind for {s}?
        Does {s} look red, green, white or otherwise?
        Of what colour is {s}?
        How does {s} look, by its colour?
        A child draws {s}. In which colour?
        Normally {s} has which colour?""",
    "body": """
        What on your body do you need when you {s}?
        Where on the body do you {s}?
        If I want to {s}, what part of me does the work?
        Which part of us is made to {s}?
        What helps a person to {s}?
        Name the body part with which people {s}.
        A person who wants to {s} needs which part of the body?""",
    "weather": """
        I am looking for the word for {s}.
        In one word, what is {s}?
        Somebody talks about {s}. Which word fits?
        There is a word for {s}. Which one?
        How do you say {s} in a single word?
        Yesterday we saw {s}. What do people call that?
        Name this: {s}.""",
    "planet": """
        I travel away from the sun. Which planet is the {s}?
        Number the planets from the sun: which one is {s}?
        Which name does the {s} planet from the sun have?
        Among the planets, which one is {s} from the sun?
        Tell me which planet stands {s} in line from the sun.
        If the sun is the start, what is the {s} planet?""",
    "product": """
        Why do people like {an}? What does it give them?
        From {an} we get what?
        What can I take home from {an}?
        What is {an} good for, what does it give?
        Which thing that we use comes from {an}?
        What does a farm get from {an}?
        The gift of {an} to us is what?""",
    "job": """
        If somebody {s}, what is his job called?
        My neighbour {s}. What is her job?
        Which worker {s}?
        What is the word for someone who {s}?
        Tom {s} for a living. What is he?
        Anna {s}. What is she?
        What do you become if you want to be the one who {s}?
        We are looking for a person who {s}. What is the name of that job?
        Ben {s} all day. Which job does he have?""",
    "workplace": """
        I am looking for the {s}. Where is the {s} working?
        My father is a {s}. Where does he work?
        Where does a {s} spend the working day?
        In what place do you see a {s} at work?
        At what place is a {s} needed?
        A {s} goes to work. To which place?
        Where would a {s} do the job?
        The {s} is at work now. Where is that?""",
    "tool": """
        My brother wants to {s}. What does he need?
        What do I take to {s}?
        What is the thing called with which people {s}?
        I have to {s}. What should you give me?
        Give me the thing that is used to {s}. What is it?
        What is made for people who want to {s}?
        If you want to {s}, which thing do you take?
        Which thing should I bring to {s}?
        What must I have if I need to {s}?""",
    "material": """
        What kind of material makes a {s}?
        I want to make a {s}. Which material do I take?
        A {s} is mostly what material?
        If you touch a {s}, which material is it?
        A {s} comes from which material?
        Which stuff is used for making a {s}?
        A good {s} is made out of what?
        What does a {s} consist of?
        Of which material would you make a {s}?""",
    "room": """
        I am looking for the {s} in the house. Where is it?
        Where does the {s} belong at home?
        In a house, where do people put the {s}?
        To find the {s}, where do I go in the house?
        Which part of a home has the {s}?
        We bought something for the house: the {s}. Where should it go?
        At home the {s} stands where?""",
    "kind": """
        What would you call {s} in general?
        {s} is one of many. Many what?
        Which word covers {s} and others like it?
        Into which group do you sort {s}?
        {s}: what kind of thing is that?
        Name the group that has {s} in it.
        What is {s}? Give the kind.
        As a class of things, {s} is what?
        To which kind does {s} belong?""",
    "made_from": """
        I am making {s}. What is the main thing that I need?
        What is inside {s}, mainly?
        Which thing becomes {s}?
        What do you need to get {s}?
        {s} was made. From what?
        Out of what is {s} made?
        Where does {s} come from, what was it first?
        What should I buy in order to make {s}?""",
    "shop": """
        My mother sends me for {s}. Where do I go?
        Who sells {s}? Name the place.
        In which shop do they sell {s}?
        Where should I look for {s} in town?
        People who want {s} go to which place?
        Tell me where to go for {s}.
        We need {s} today. Which place has it?
        If I need {s}, which place should I visit?""",
    "author": """
        Who is the person behind {s}?
        We know {s}, but who made it?
        Whose name stands on {s}?
        {s} was made by whom?
        {s} came from which person?
        Which great name belongs to {s}?
        Who gave the world {s}?
        Which writer, painter or composer made {s}?""",
    "sport": """
        My sister starts with {s}. What should she get?
        If you do {s}, what do you have with you?
        Which thing do people use in {s}?
        You cannot do {s} without what?
        For {s}, what is the thing to have?
        What is important to have in {s}?
        A friend of mine loves {s}. What does he use?""",
    "_calculation": """
        Tell me what {s} comes to.
        I must know {s}. How much is it?
        {s} comes to what?
        Can you add it up or work it out: {s}?
        What will I get if I take {s}?
        The sum or result of {s} is what?
        My homework says {s}. What do I write?
        How many is {s}?
        Find out how much {s} is.""",
    "_after": """
        {s} is over. Which {unit} begins?
        After {s} we have which {unit}?
        This {unit} is {s}. Which one comes next?
        Which {unit} follows {s}?
        The {unit} that follows {s} is which?
        When {s} ends, which {unit} starts?
        I wait for the {unit} after {s}. Which one is it?""",
    "_before": """
        Which {unit} ended when {s} began?
        Before {s} we had which {unit}?
        This {unit} is {s}. Which one was the last?
        Which {unit} leads to {s}?
        The {unit} that was there before {s} is which?
        When {s} starts, which {unit} has just ended?
        I think of the {unit} before {s}. Which one is it?""",
    "month_place": """
        Number the months: which one is {s}?
        In the year, the {s} month is called what?
        Say the name of the month that comes {s}.
        Which name has the {s} month of the calendar?
        January is the first month. Which one is the {s}?
        The year has twelve months. Name the {s}.""",
    "month_days": """
        How many days do you count in {s}?
        How many days long is {s}?
        {s} is how many days long?
        From its first to its last day, how many days has {s}?
        How many mornings are there in {s}?
        Count the days of {s}: how many?
        The calendar shows how many days for {s}?
        If I work every day of {s}, how many days do I work?""",
    "festival": """
        I look forward to {s}. In which month do we have it?
        During what month do people have {s}?
        {s} comes in which month of the year?
        Look up {s}: which month is it in?
        The party for {s} is in which month?
        Name the month when {s} comes.
        In what part of the year is {s}, by month?""",
    "digit": """
        Show me {s} in digits.
        I see the word {s}. Which digits do I write?
        Write down {s} with figures.
        How does {s} look in digits?
        On a sign there is {s} in digits. What does it show?
        As digits, {s} is what?
        Which number do you type for {s}?
        Please turn the word {s} into a number.""",
    "next_number": """
        I have {s} apples and get one more. How many now?
        We count {s}, and which number follows?
        The next step after {s} is which number?
        Say the number that comes when {s} is done.
        I am {s} years old. How old will I be next year?
        What is {s} and one?
        If you go one up from {s}, where are you?
        On the list after number {s} comes which number?""",
    "unit": """
        I am counting {s}. How many will I find?
        How many {s} exist?
        Say how many {s} we have.
        Is there a fixed number of {s}? Which one?
        Can you say how many {s} there are?
        If I count all {s}, what do I get?
        How great is the number of {s}?
        How many are there, when we talk about {s}?
        Somebody wants to know how many {s} there are.""",
    "sides": """
        I draw a {s}. How many lines do I need for its sides?
        Look at a {s}: how many sides do you see?
        How many sides can you count on a {s}?
        What is the number of sides for a {s}?
        The sides of a {s} are how many?
        A {s} is a shape with how many sides?
        If you walk around a {s}, how many sides do you pass?""",
}
_SHARED = {"sum": "_calculation", "product_of": "_calculation", "difference": "_calculation"}
_NEIGHBOURS = {
    "day_after": ("_after", "day"),
    "month_after": ("_after", "month"),
    "day_before": ("_before", "day"),
    "month_before": ("_before", "month"),
}


def more_questions(name: str) -> tuple[str, ...]:
    """Further question templates of the relation `name`; () if there are none."""
    if name in _NEIGHBOURS:
        key, unit = _NEIGHBOURS[name]
        return lines(_TEXT[key].replace("{unit}", unit))
    return lines(_TEXT.get(_SHARED.get(name, name), ""))
