"""Facts about the world's places: capitals, continents, languages, money, landmarks, superlatives."""

from __future__ import annotations

from tui_lab.pocket.builder.relation import Relation, lines, pairs

RELATIONS = (
    Relation(
        "capital",
        "places",
        pairs("""
            France=Paris; Spain=Madrid; Italy=Rome; Germany=Berlin; England=London; Portugal=Lisbon;
            Greece=Athens; Austria=Vienna; Poland=Warsaw; Russia=Moscow; Ireland=Dublin;
            Sweden=Stockholm; Norway=Oslo; Denmark=Copenhagen; Finland=Helsinki; Belgium=Brussels;
            Hungary=Budapest; Japan=Tokyo; China=Beijing; South Korea=Seoul; Thailand=Bangkok;
            Vietnam=Hanoi; India=New Delhi; Egypt=Cairo; Kenya=Nairobi; Morocco=Rabat; Canada=Ottawa;
            Cuba=Havana; Peru=Lima; Chile=Santiago; Brazil=Brasilia; Argentina=Buenos Aires;
            Mexico=Mexico City; Australia=Canberra; Turkey=Ankara; Iran=Tehran; Iraq=Baghdad;
            Scotland=Edinburgh; Wales=Cardiff; Iceland=Reykjavik; Romania=Bucharest; Bulgaria=Sofia;
            Nepal=Kathmandu; Colombia=Bogota; Ethiopia=Addis Ababa; Ukraine=Kyiv; Croatia=Zagreb;
            Serbia=Belgrade"""),
        lines("""
            the capital of {s}
            the capital city of {s}
            {s}'s capital
            the city that is the capital of {s}"""),
        lines("""
            Which city is the capital of {s}?
            What city is {s}'s capital?
            Which town is the capital city of {s}?
            The capital of {s} is which city?
            In which city does the government of {s} sit?
            If I visit the capital of {s}, in which city am I?
            Which capital belongs to {s}?
            What is the name of the capital of {s}?
            {s} has which capital?
            Where is the government of {s}?"""),
        lines("""
            Which city serves as the capital of {s}?
            What do people call the capital city of {s}?
            The government of {s} sits in which city?
            {s} is ruled from which capital city?"""),
        lines("""
            The capital of {s} is {a}.
            {a} is the capital of {s}.
            {s} has a capital city called {a}.
            The government of {s} sits in {a}."""),
    ),
    Relation(
        "continent",
        "places",
        pairs("""
            France=Europe; Spain=Europe; Italy=Europe; Germany=Europe; Poland=Europe; Greece=Europe;
            Norway=Europe; Sweden=Europe; Portugal=Europe; Austria=Europe; Ireland=Europe; Japan=Asia;
            China=Asia; India=Asia; Thailand=Asia; Vietnam=Asia; Nepal=Asia; South Korea=Asia; Iran=Asia;
            Iraq=Asia; Egypt=Africa; Kenya=Africa; Morocco=Africa; Ethiopia=Africa; Nigeria=Africa;
            Ghana=Africa; Canada=North America; Mexico=North America; Cuba=North America;
            the United States=North America; Brazil=South America; Peru=South America;
            Chile=South America; Argentina=South America; Colombia=South America"""),
        lines("""
            the continent of {s}
            the continent where {s} lies
            the continent that {s} is part of"""),
        lines("""
            On which continent is {s}?
            Which continent is {s} in?
            What continent does {s} belong to?
            {s} is on which continent?
            Where in the world is {s}, on which continent?
            In which part of the world is {s}?
            Which continent has {s} in it?
            If you travel to {s}, which continent do you visit?"""),
        lines("""
            On what continent can you find {s}?
            {s} is a country on which continent?
            Which continent would you fly to for {s}?"""),
        lines("""
            {s} is in {a}.
            {s} lies on the continent of {a}.
            The continent of {s} is {a}.
            {s} is a country in {a}."""),
    ),
    Relation(
        "language",
        "places",
        pairs("""
            France=French; Spain=Spanish; Italy=Italian; Germany=German; England=English;
            Portugal=Portuguese; Greece=Greek; Poland=Polish; Russia=Russian; Sweden=Swedish;
            Norway=Norwegian; Denmark=Danish; Finland=Finnish; Hungary=Hungarian; Japan=Japanese;
            China=Chinese; South Korea=Korean; Thailand=Thai; Vietnam=Vietnamese; Egypt=Arabic;
            Turkey=Turkish; Brazil=Portuguese; Mexico=Spanish; Australia=English; Austria=German;
            Iraq=Arabic; Cuba=Spanish; Romania=Romanian; Bulgaria=Bulgarian; Iceland=Icelandic"""),
        lines("""
            the main language of {s}
            the language of {s}
            the language that people speak in {s}"""),
        lines("""
            Which language do people speak in {s}?
            What language is spoken in {s}?
            What do people speak in {s}?
            In {s}, which language do most people speak?
            Which language should I learn for a trip to {s}?
            Which language is used in the schools of {s}?
            What language do children learn to speak in {s}?
            {s} has which main language?"""),
        lines("""
            Which language would you hear on the streets of {s}?
            What language do most people in {s} use?
            Most people of {s} talk in which language?"""),
        lines("""
            People in {s} speak {a}.
            The main language of {s} is {a}.
            {a} is the language of {s}.
            In {s} most people speak {a}."""),
    ),
    Relation(
        "currency",
        "places",
        pairs("""
            Japan=yen; China=yuan; India=rupee; Russia=ruble; Mexico=peso; Switzerland=franc;
            England=pound; the United States=dollar; Canada=dollar; Australia=dollar; France=euro;
            Germany=euro; Italy=euro; Spain=euro; Sweden=krona; Norway=krone; Turkey=lira;
            South Korea=won; Brazil=real; Poland=zloty; Thailand=baht; South Africa=rand"""),
        lines("""
            the money of {s}
            the currency of {s}
            the name of the money in {s}"""),
        lines("""
            Which money do people use in {s}?
            What currency is used in {s}?
            What do people pay with in {s}?
            In {s}, what is the money called?
            Which coins and notes do shops in {s} take?
            Which currency do I need in {s}?
            What money should I take on a trip to {s}?"""),
        lines("""
            With which currency would you buy bread in {s}?
            What is the unit of money in {s}?
            What kind of money does {s} have?"""),
        lines("""
            The money of {s} is the {a}.
            People in {s} pay with the {a}.
            The {a} is the currency of {s}.
            In {s} the money is called the {a}."""),
    ),
    Relation(
        "landmark",
        "places",
        pairs("""
            the Eiffel Tower=Paris; Big Ben=London; the Colosseum=Rome; the Statue of Liberty=New York;
            the Kremlin=Moscow; the Brandenburg Gate=Berlin; the Parthenon=Athens;
            the Opera House=Sydney; the Golden Gate Bridge=San Francisco; the White House=Washington;
            the Forbidden City=Beijing; the Little Mermaid=Copenhagen; the Louvre=Paris;
            Tower Bridge=London; Central Park=New York"""),
        lines("""
            the city of {s}
            the city where {s} stands
            the home city of {s}"""),
        lines("""
            In which city is {s}?
            Which city has {s}?
            Where is {s}?
            Where can I see {s}?
            {s} stands in which city?
            To which city do I go to see {s}?
            Which city is famous for {s}?
            In what city do tourists visit {s}?"""),
        lines("""
            In which city can you find {s}?
            Which city must you visit to look at {s}?
            {s} belongs to which city?"""),
        lines("""
            {s} is in {a}.
            {s} stands in the city of {a}.
            You can see {s} in {a}.
            {a} is famous for {s}."""),
    ),
    Relation(
        "superlative",
        "places",
        pairs("""
            the largest ocean=Pacific; the highest mountain=Everest; the largest planet=Jupiter;
            the hottest planet=Venus; the largest country=Russia; the largest continent=Asia;
            the smallest planet=Mercury; the largest animal=blue whale; the fastest land animal=cheetah;
            the tallest animal=giraffe; the largest land animal=elephant; the largest bird=ostrich;
            the longest river in Africa=Nile; the largest desert of sand=Sahara;
            the smallest continent=Australia; the coldest continent=Antarctica; the nearest star=sun;
            the longest river in South America=Amazon; the largest island=Greenland;
            the hardest natural stone=diamond; the largest cat=tiger; the largest organ of the body=skin;
            the shortest month=February; the smallest bird=hummingbird; the red planet=Mars;
            the planet with the big rings=Saturn; the largest fish=whale shark;
            the king of the animals=lion"""),
        lines("""
            {s}
            the name of {s}
            the correct name for {s}"""),
        lines("""
            Which one is {s}?
            What is {s} called?
            What do we call {s}?
            Which is {s}?
            Do you know which one is {s}?
            Can you say which is {s}?
            People call it {s}. Which one is it?"""),
        lines("""
            In the whole world, which is {s}?
            Which name goes with {s}?
            Everybody talks about {s}. What is its name?"""),
        lines("""
            {a} is the name of {s}.
            The name of {s} is {a}.
            We call {s} by the name {a}.
            The right answer for {s} is {a}."""),
    ),
)
